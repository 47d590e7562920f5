#!/usr/bin/perl
# DBD::Pg, over libpq.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:async);

use constant ROWS => 100_000;

sub connected {
    my %with = (mode => 'verify-full', authority => $ENV{PGSSLROOTCERT},
        password => $ENV{PGPASSWORD}, @_);
    my $source = "dbi:Pg:dbname=$ENV{PGDATABASE};host=$ENV{PGHOST};port=$ENV{PGPORT}"
        . ";sslmode=$with{mode};sslrootcert=$with{authority}";
    my %options = (RaiseError => 1, PrintError => 0, AutoCommit => 1);
    return DBI->connect($source, $ENV{PGUSER}, $with{password}, \%options);
}

sub one {
    my ($dbh, $sql, @values) = @_;
    return scalar $dbh->selectrow_array($sql, undef, @values);
}

sub outcome {
    my $dbh = eval { connected(@_) } or return 'refused';
    my $tls = one($dbh, 'select ssl from pg_stat_ssl where pid = pg_backend_pid()');
    return $tls ? 'tls' : 'plain';
}

sub filled {
    my $dbh = connected();
    $dbh->do('create temporary table card (n integer)');
    $dbh->do('copy card from stdin');
    $dbh->pg_putcopydata("$_\n") for 1 .. ROWS;
    $dbh->pg_putcopyend;
    return $dbh;
}

sub cancel {
    my $dbh = connected();
    my $pid = $dbh->{pg_pid};
    my $other = connected();
    $dbh->do('select pg_sleep(60)', { pg_async => PG_ASYNC });
    my $asleep = "select count(*) from pg_stat_activity where pid = $pid and wait_event = 'PgSleep'";
    select undef, undef, undef, 0.05 until one($other, $asleep);
    $dbh->pg_cancel;
    return $dbh->state . ' ' . one($dbh, 'select ?::text', 'alive');
}

sub copy_out {
    my $dbh = filled();
    $dbh->do('copy card to stdout');
    my ($count, $sum, $line) = (0, 0, '');
    while ($dbh->pg_getcopydata($line) >= 0) { $count += 1; $sum += $line; }
    return "$count $sum";
}

sub notify {
    my ($listener, $other) = (connected(), connected());
    $listener->do('listen card');
    $other->do("notify card, 'hello'");
    my $heard;
    do { $heard = $listener->pg_notifies } until $heard;
    return $heard->[2];
}

sub long_row {
    my $text = 'x' x $ENV{CARD_ROW_BYTES};
    my $back = one(connected(), 'select ?::text', $text);
    return length($back) . ($back eq $text ? ' same' : ' changed');
}

sub prepared {
    my $statement = connected()->prepare('select ?::int4 + 1');
    my @said;
    for my $number (41, 42, 43) {
        $statement->execute($number);
        push @said, $statement->fetchrow_array;
    }
    return "@said";
}

sub failing {
    my $dbh = connected();
    eval { one($dbh, 'select 1 / 0') };
    return $dbh->state . ' ' . one($dbh, 'select ?::text', 'alive');
}

sub reconnect {
    eval { one(connected(), 'select pg_terminate_backend(pg_backend_pid())') }
        and return 'it did not end';
    return 'ended ' . one(connected(), 'select ?::text', 'alive');
}

sub play {
    my ($name, $item) = @_;
    my $outcome = eval { $item->() } // "failed $@";
    $outcome =~ s/\s+/ /g;
    print "$name\t$outcome\n";
}

$| = 1;
for my $mode (qw(disable allow prefer require verify-ca verify-full)) {
    play("sslmode=$mode", sub { outcome(mode => $mode) });
}
play('foreign-authority', sub { outcome(authority => $ENV{CARD_FOREIGN_CA}) });
play('wrong-password', sub { outcome(password => 'not-this-one') });
play('cancel', \&cancel);
play('copy-in', sub { join ' ', filled()->selectrow_array('select count(*), sum(n) from card') });
play('copy-out', \&copy_out);
play('prepared', \&prepared);
play('notify', \&notify);
play('long-row', \&long_row);
play('error', \&failing);
play('reconnect', \&reconnect);
