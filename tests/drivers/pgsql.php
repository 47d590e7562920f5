<?php
// PHP's pgsql, over libpq.

const ROWS = 100000;
const WAIT_S = 30;

// Warnings are what it says besides returning false.
error_reporting(0);
ini_set('memory_limit', '-1');

function connect($mode = 'verify-full', $authority = null, $password = null)
{
    $authority ??= getenv('PGSSLROOTCERT');
    $password ??= getenv('PGPASSWORD');
    $connection = pg_connect(
        sprintf('host=%s port=%s dbname=%s user=%s password=%s sslmode=%s sslrootcert=%s',
            getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'), getenv('PGUSER'),
            $password, $mode, $authority),
        PGSQL_CONNECT_FORCE_NEW
    );
    return $connection;
}

function one($connection, $sql, $values = [])
{
    return pg_fetch_result(pg_query_params($connection, $sql, $values), 0, 0);
}

function alive($connection)
{
    return one($connection, 'select $1::text', ['alive']);
}

function outcome(...$with)
{
    $connection = connect(...$with);
    if ($connection === false) {
        return 'refused';
    }
    $tls = one($connection, 'select ssl from pg_stat_ssl where pid = pg_backend_pid()');
    return $tls === 't' ? 'tls' : 'plain';
}

/** Sends a query, so that its error is a result with fields and not a false. */
function state($connection, $sql, $meanwhile)
{
    pg_send_query($connection, $sql);
    $meanwhile();
    return pg_result_error_field(pg_get_result($connection), PGSQL_DIAG_SQLSTATE);
}

function filled()
{
    $connection = connect();
    pg_query($connection, 'create temporary table card (n integer)');
    $lines = array_map(fn ($it) => "$it\n", range(1, ROWS));
    pg_copy_from($connection, 'card', $lines);
    return $connection;
}

function cancel()
{
    [$connection, $other] = [connect(), connect()];
    $asleep = 'select count(*) from pg_stat_activity where pid = $1 and wait_event = \'PgSleep\'';
    $pid = pg_get_pid($connection);
    pg_send_query($connection, 'select pg_sleep(60)');
    while (one($other, $asleep, [$pid]) === '0') {
        usleep(50000);
    }
    // It takes the results away as well, so what the server said is not seen.
    $cancelled = pg_cancel_query($connection);
    $gone = one($other, $asleep, [$pid]) === '0';
    return ($cancelled && $gone ? '57014 ' : 'not cancelled ') . alive($connection);
}

function copyOut()
{
    $lines = pg_copy_to(filled(), 'card');
    return count($lines) . ' ' . array_sum(array_map('intval', $lines));
}

function prepared()
{
    $connection = connect();
    pg_prepare($connection, 'card', 'select $1::int4 + 1');
    $run = fn ($it) => pg_fetch_result(pg_execute($connection, 'card', [$it]), 0, 0);
    return implode(' ', array_map($run, [41, 42, 43]));
}

function hear()
{
    $listener = connect();
    pg_query($listener, 'listen card');
    pg_query(connect(), "notify card, 'hello'");
    $until = time() + WAIT_S;
    while (($heard = pg_get_notify($listener)) === false && time() < $until) {
        pg_query($listener, 'select 1');
    }
    return $heard['payload'];
}

function longRow()
{
    $text = str_repeat('x', (int) getenv('CARD_ROW_BYTES'));
    $back = one(connect(), 'select $1::text', [$text]);
    return strlen($back) . ($back === $text ? ' same' : ' changed');
}

function reconnect()
{
    $connection = connect();
    $result = pg_query($connection, 'select pg_terminate_backend(pg_backend_pid())');
    return ($result === false ? 'ended ' : 'it did not end ') . alive(connect());
}

function play($name, $item)
{
    try {
        $outcome = $item();
    } catch (Throwable $error) {
        $outcome = 'failed ' . $error->getMessage();
    }
    echo $name, "\t", trim(preg_replace('/\s+/', ' ', $outcome)), "\n";
}

foreach (['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as $mode) {
    play("sslmode=$mode", fn () => outcome($mode));
}
play('foreign-authority', fn () => outcome(authority: getenv('CARD_FOREIGN_CA')));
play('wrong-password', fn () => outcome(password: 'not-this-one'));
play('cancel', 'cancel');
play('copy-in', fn () => one(filled(), "select count(*) || ' ' || sum(n) from card"));
play('copy-out', 'copyOut');
play('prepared', 'prepared');
play('notify', 'hear');
play('long-row', 'longRow');
play('error', function () {
    $connection = connect();
    return state($connection, 'select 1 / 0', fn () => null) . ' ' . alive($connection);
});
play('reconnect', 'reconnect');
