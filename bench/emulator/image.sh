# Runs once, inside the new root of the guest, as its root: makes the database and packs everything
# into one archive that a kernel unpacks into memory. Leaves /boot/kernel, /boot/root.cpio and
# /boot/versions behind.
set -eu
export LC_ALL=C.UTF-8
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/bench

as_postgres() {
    setpriv --reuid postgres --regid postgres --init-groups "$@"
}

# What no load needs would only take time to unpack.
rm -rf /var/lib/postgresql/*/main /usr/lib/modules/* /usr/lib/firmware /usr/lib/udev/hwdb* \
    /usr/lib/x86_64-linux-gnu/libLLVM* /usr/lib/postgresql/*/lib/bitcode \
    /usr/lib/postgresql/*/lib/llvmjit* /usr/share/doc /usr/share/locale /usr/share/man \
    /var/lib/apt/lists/* /var/cache/apt/*

install -d -o postgres -g postgres /run/postgresql
as_postgres "$bin/initdb" --pgdata="$data" --auth=trust --no-sync --encoding=UTF8 \
    --locale=C.UTF-8 --wal-segsize=1 > /dev/null
# The settings and the rules come from the bench at each start.
echo "include_if_exists '/bench/postgresql.conf'" >> "$data/postgresql.conf"
as_postgres "$bin/pg_ctl" --pgdata="$data" --wait --silent --log=/tmp/log \
    --options="-c listen_addresses= -c unix_socket_directories=/run/postgresql -c fsync=off" start
as_postgres "$bin/createdb" --host=/run/postgresql bench
as_postgres "$bin/pgbench" --host=/run/postgresql --initialize --quiet --unlogged-tables bench
as_postgres "$bin/psql" --host=/run/postgresql --quiet --command=checkpoint bench
as_postgres "$bin/pg_ctl" --pgdata="$data" --wait --silent stop
rm -rf /run/postgresql /tmp/log

cp /boot/vmlinuz-* /boot/kernel
dpkg-query --show --showformat='${Package} ${Version}\n' \
    'linux-image-*-amd64' 'postgresql-[0-9][0-9]' \
    pgbouncer haproxy nginx | awk 'NF == 2' > /boot/versions
find / -xdev -path /boot -prune -o -print | sort | cpio --create --format=newc --quiet \
    --reproducible > /boot/root.cpio
