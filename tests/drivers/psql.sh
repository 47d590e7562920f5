#!/bin/bash
# psql, which is libpq itself.

say() { printf '%s\t%s\n' "$1" "$(tr -s ' \n' ' ' <<<"$2" | sed 's/ $//')"; }
run() { psql -XAtq -v VERBOSITY=sqlstate "$@" 2>&1; }

# psql tells no SQLSTATE of a refusal, so that its words decide.
connect() {
  local said
  said=$(run -c "select 'tls' from pg_stat_ssl where pid = pg_backend_pid() and ssl")
  case $? in
    0) echo "$said" ;;
    2) [[ $said == *"password authentication failed"* ]] && echo "refused 28P01" || echo refused ;;
    *) echo "failed $said" ;;
  esac
}

for mode in disable allow prefer require verify-ca verify-full; do
  say "sslmode=$mode" "$(PGSSLMODE=$mode connect)"
done
export PGSSLMODE=verify-full
say foreign-authority "$(PGSSLROOTCERT=$CARD_FOREIGN_CA connect)"
say wrong-password "$(PGPASSWORD=not-this-one connect)"

# psql cancels at Ctrl-C, and then ends its script: somebody else asks whether all is well.
cancelled=$(timeout --foreground --signal INT --kill-after 60 2 \
  psql -XAtq -v VERBOSITY=sqlstate -c 'select pg_sleep(60)' 2>&1)
cancelled=$(sed 's/^.*ERROR: *//; /^Cancel request sent$/d' <<<"$cancelled")
say cancel "$cancelled $(run -c "select 'alive'")"

say copy-in "$(run -F ' ' <<'SQL'
create temporary table card (n integer);
\copy card from program 'seq 1 100000'
select count(*), sum(n) from card;
SQL
)"
say copy-out "$(run -c '\copy (select n from generate_series(1, 100000) n) to stdout' |
  awk '{ count += 1; sum += $1 } END { printf "%d %.0f\n", count, sum }')"
say prepared "$(run <<'SQL'
prepare card (int) as select $1 + 1;
execute card (41); execute card (42); execute card (43);
SQL
)"
said=$(run -c 'listen card' -c "notify card, 'hello'")
say notify "$(sed 's/.*with payload "\([^"]*\)".*/\1/' <<<"$said")"
others=$(run -c "select repeat('x', $CARD_ROW_BYTES)" | tr -d 'x\n' | wc -c)
length=$(run -c "select repeat('x', $CARD_ROW_BYTES)" | tr -d '\n' | wc -c)
say long-row "$length $([[ $others == 0 ]] && echo same || echo changed)"
say error "$(run <<<"select 1 / 0; select 'alive';" | sed 's/^.*ERROR: *//')"
said=$(run -c 'select pg_terminate_backend(pg_backend_pid())') || said=ended
say reconnect "$said $(run -c "select 'alive'")"
