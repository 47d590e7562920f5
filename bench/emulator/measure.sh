# Starts every server of the guest and runs every load; prints one line a load:
#   figure transactions ROUTE ENCRYPTION CLIENTS IDLE_NS SECONDS:RATE ...
#   figure bytes ROUTE ENCRYPTION DIRECTION IDLE_NS BYTES:NS
# A nanosecond of this machine's clock is one instruction, or none while it is idle.
. /bench/plan
export PGPASSWORD

as() {
    account=$1
    shift
    setpriv --reuid "$account" --regid "$account" --init-groups "$@"
}

sql() {
    psql --host=/run/postgresql --username=postgres --quiet --no-align --tuples-only \
        --set=ON_ERROR_STOP=1 "$@"
}

port() {
    case $1 in
        direct) echo 5432 ;;
        postern) echo 6000 ;;
        pgbouncer) echo 6001 ;;
        haproxy) echo 6002 ;;
        nginx) echo 6003 ;;
    esac
}

user() {
    case $1 in
        postern) echo "$PERSON" ;;
        *) echo "$DIRECT_USER" ;;
    esac
}

now_ns() {
    date +%s%N
}

idle_ns() {
    awk '/idle_sleeptime/ { sum += $3 } END { printf "%.0f", sum }' /proc/timer_list
}

start_direct() {
    install -d -o postgres -g postgres /run/postgresql
    install -m 600 -o postgres -g postgres /bench/key.pem /run/postgresql/key.pem
    as postgres pg_ctl --pgdata=/var/lib/postgresql/bench --wait --silent --log=/tmp/direct.log \
        start
}

# Also makes the group whose rights the direct user has.
start_postern() {
    install -d -m 700 /run/postern
    cd /run/postern || return
    umask 077
    cp /bench/key.pem key.pem
    openssl rand -hex 32 > cluster-key
    openssl rand -hex 16 > provisioner-password
    : > accounts.toml
    umask 022
    echo "$PGPASSWORD" |
        /bench/postern local passwd --file accounts.toml "$PERSON" --group "$GROUP"
    /bench/postern init-sql --config /bench/postern.toml --admin-user postgres \
        --admin-host /run/postgresql --admin-port 5432 > /tmp/postern.log 2>&1
    # One iteration: the clients' PBKDF2 is in no figure, and would take most of the time.
    sql --command='set scram_iterations = 1' --command="create role \"$GROUP\"" \
        --command="create role $DIRECT_USER login password '$PGPASSWORD' in role \"$GROUP\"" \
        --command="select from postern.adopt_group('$GROUP')" postgres
    sql --command="grant select on all tables in schema public to \"$GROUP\"" bench
    /bench/postern run --config /bench/postern.toml >> /tmp/postern.log 2>&1 &
    cd /
}

start_pgbouncer() {
    install -d -o postgres /run/pgbouncer
    install -m 600 -o postgres /bench/key.pem /run/pgbouncer/key.pem
    sql --command="select format('\"%s\" \"%s\"', rolname, rolpassword) from pg_authid
        where rolname = '$DIRECT_USER'" postgres > /run/pgbouncer/users.txt
    as postgres pgbouncer /bench/pgbouncer.ini > /tmp/pgbouncer.log 2>&1 &
}

start_haproxy() {
    haproxy -db -f /bench/haproxy.cfg > /tmp/haproxy.log 2>&1 &
}

start_nginx() {
    mkdir /run/nginx
    nginx -e stderr -c /bench/nginx.conf -p /run/nginx > /tmp/nginx.log 2>&1 &
}

# Waits until a route answers; 10 s of this clock are much more than any start takes.
await() {
    attempts=100
    until PGSSLMODE=disable psql --host=localhost --port="$(port "$1")" --username="$(user "$1")" \
        --quiet --command='select' bench > /tmp/answer 2>&1; do
        attempts=$((attempts - 1))
        if [ $attempts = 0 ]; then
            echo "failed $1: $(head -1 /tmp/answer)"
            head -20 "/tmp/$1.log"
            return 1
        fi
        sleep 0.1
    done
}

# transactions ROUTE CLIENTS
# The more sessions there are, the longer it takes until all are open and have filled their caches.
transactions() {
    before=$(idle_ns)
    pgbench --host=localhost --port="$(port "$1")" --username="$(user "$1")" --no-vacuum \
        --select-only --protocol=prepared --jobs=1 --client="$2" --time=$((6 + $2 / 128)) \
        --progress=1 --random-seed="$SEED" bench > /tmp/pgbench.log 2>&1
    idle=$(($(idle_ns) - before))
    rates=$(sed -n 's/^progress: \([0-9.]*\) s, \([0-9.]*\) tps.*/\1:\2/p' /tmp/pgbench.log)
    echo "figure transactions $1 $encryption $2 $idle" $rates
    grep error: /tmp/pgbench.log | head -3
}

# bytes ROUTE out|in FILE
bytes() {
    rows=$(wc -l < "$3")
    case $2 in
        out) copy="\\copy (select * from bulk limit $rows) to '/dev/null'" ;;
        in) copy="\\copy bulk from '$3' where false" ;;
    esac
    before=$(idle_ns)
    begin=$(now_ns)
    psql --host=localhost --port="$(port "$1")" --username="$(user "$1")" --quiet --no-psqlrc \
        --command="$copy" bench
    ns=$(($(now_ns) - begin))
    echo "figure bytes $1 $encryption $2 $(($(idle_ns) - before)) $(wc -c < "$3"):$ns"
}

make_bulk() {
    sql --command='create unlogged table bulk (id bigint, filler text)' \
        --command="insert into bulk
            select it, repeat(chr(97 + it::int % 26), 990) from generate_series(1, $ROWS * 3) it" \
        --command='vacuum bulk' \
        --command="grant select, insert on bulk to \"$GROUP\"" \
        --command="\\copy (select * from bulk limit $ROWS) to '/tmp/bulk-1'" \
        --command="\\copy bulk to '/tmp/bulk-3'" bench
}

for route in $ROUTES; do
    start_$route
done
answering=
for route in $ROUTES; do
    await $route && answering="$answering $route "
done
make_bulk
for encryption in plain tls; do
    case $encryption in
        plain) wanted=$ROUTES PGSSLMODE=disable ;;
        tls) wanted=$ROUTES_TLS PGSSLMODE=require ;;
    esac
    export PGSSLMODE
    routes=
    for route in $wanted; do
        case $answering in
            *" $route "*) routes="$routes $route" ;;
        esac
    done
    for clients in $CLIENTS; do
        for route in $routes; do
            transactions $route $clients
        done
    done
    for direction in out in; do
        for route in $routes; do
            bytes $route $direction /tmp/bulk-1
            bytes $route $direction /tmp/bulk-3
        done
    done
done
echo end
