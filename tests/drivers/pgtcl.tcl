# Pgtcl, over libpq.

package require Pgtcl

set rows 100000
set wait_ms 30000

proc connected {{mode verify-full} {authority ""} {password ""}} {
    if {$authority eq ""} { set authority $::env(PGSSLROOTCERT) }
    if {$password eq ""} { set password $::env(PGPASSWORD) }
    set place "host=$::env(PGHOST) port=$::env(PGPORT) dbname=$::env(PGDATABASE)"
    set who "user=$::env(PGUSER) password=$password"
    return [pg_connect -conninfo "$place $who sslmode=$mode sslrootcert=$authority"]
}

proc one {connection sql args} {
    set result [pg_exec $connection $sql {*}$args]
    if {[pg_result $result -status] ne "PGRES_TUPLES_OK"} {
        set code [pg_result $result -error sqlstate]
        pg_result $result -clear
        error $code
    }
    set value [pg_result $result -getTuple 0]
    pg_result $result -clear
    return [lindex $value 0]
}

proc alive {connection} { one $connection {select $1::text} alive }

proc outcome {args} {
    if {[catch {connected {*}$args} connection]} { return refused }
    set tls [one $connection {select ssl from pg_stat_ssl where pid = pg_backend_pid()}]
    return [expr {$tls eq "t" ? "tls" : "plain"}]
}

proc filled {} {
    set connection [connected]
    pg_exec $connection {create temporary table card (n integer)}
    set result [pg_exec $connection {copy card from stdin}]
    for {set number 1} {$number <= $::rows} {incr number} { puts $connection $number }
    puts $connection "\\."
    pg_result $result -clear
    return $connection
}

proc cancel {} {
    set connection [connected]
    set other [connected]
    set pid [one $connection {select pg_backend_pid()}]
    set asleep "select count(*) from pg_stat_activity\
        where pid = $pid and wait_event = 'PgSleep'"
    pg_sendquery $connection {select pg_sleep(60)}
    while {[one $other $asleep] eq "0"} { after 50 }
    pg_cancelrequest $connection
    set result [pg_getresult $connection]
    set code [pg_result $result -error sqlstate]
    pg_result $result -clear
    while {[set result [pg_getresult $connection]] ne ""} { pg_result $result -clear }
    return "$code [alive $connection]"
}

proc copy_in {} { one [filled] {select count(*) || ' ' || sum(n) from card} }

proc prepared {} {
    set connection [connected]
    pg_exec $connection {prepare card (int) as select $1 + 1}
    set said {}
    foreach number {41 42 43} {
        set result [pg_exec_prepared $connection card $number]
        lappend said [lindex [pg_result $result -getTuple 0] 0]
    }
    return $said
}

# Told the name alone, not what was said.
proc hear {args} { set ::heard hello }

proc notify {} {
    set listener [connected]
    pg_listen $listener card hear
    pg_exec [connected] {notify card, 'hello'}
    after $::wait_ms {set ::heard nothing}
    vwait ::heard
    return $::heard
}

proc long_row {} {
    set text [string repeat x $::env(CARD_ROW_BYTES)]
    set back [one [connected] {select $1::text} $text]
    return "[string length $back] [expr {$back eq $text ? "same" : "changed"}]"
}

proc failing {} {
    set connection [connected]
    catch {one $connection {select 1 / 0}} code
    return "$code [alive $connection]"
}

proc reconnect {} {
    if {![catch {one [connected] {select pg_terminate_backend(pg_backend_pid())}}]} {
        return "it did not end"
    }
    return "ended [alive [connected]]"
}

proc play {name args} {
    if {[catch $args said]} { set said "failed $said" }
    puts "$name\t[string trim [regsub -all {\s+} $said { }]]"
    flush stdout
}

foreach mode {disable allow prefer require verify-ca verify-full} {
    play sslmode=$mode outcome $mode
}
play foreign-authority outcome verify-full $env(CARD_FOREIGN_CA)
play wrong-password outcome require "" not-this-one
play cancel cancel
play copy-in copy_in
# Its channel says that it has ended, or that it is busy, when nothing has come yet.
puts "copy-out\tcannot"
play prepared prepared
play notify notify
play long-row long_row
play error failing
play reconnect reconnect
