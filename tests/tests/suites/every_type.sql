-- A column of every type that PostgreSQL 13 and later have for tables, with values at its edges,
-- and large objects. The names of types are in the column's name.
create type mood as enum ('calm', 'cross', 'naïve');
create domain posint as integer check (value > 0);
create type pair as (left_part text, right_part numeric(12, 3));
create type odd_range as range (subtype = float8);

create table every_type (
    id integer primary key,
    v_bool boolean, v_bytea bytea, v_char "char", v_name name, v_int2 int2, v_int4 int4,
    v_int8 int8, v_float4 float4, v_float8 float8, v_numeric numeric, v_money money,
    v_text text, v_varchar varchar(20), v_bpchar char(5), v_json json, v_jsonb jsonb,
    v_jsonpath jsonpath, v_xml xml, v_uuid uuid, v_bit bit(5), v_varbit bit varying(9),
    v_date date, v_time time, v_timetz timetz, v_timestamp timestamp, v_timestamptz timestamptz,
    v_interval interval, v_point point, v_line line, v_lseg lseg, v_box box, v_path path,
    v_polygon polygon, v_circle circle, v_inet inet, v_cidr cidr, v_macaddr macaddr,
    v_macaddr8 macaddr8, v_tsvector tsvector, v_tsquery tsquery, v_oid oid, v_regclass regclass,
    v_regtype regtype, v_regrole regrole, v_regproc regproc, v_regprocedure regprocedure,
    v_regoper regoper, v_regoperator regoperator, v_regconfig regconfig,
    v_regdictionary regdictionary, v_regnamespace regnamespace, v_regcollation regcollation,
    v_tid tid, v_xid xid, v_xid8 xid8, v_cid cid, v_pg_lsn pg_lsn, v_pg_snapshot pg_snapshot,
    v_txid_snapshot txid_snapshot, v_refcursor refcursor, v_oidvector oidvector,
    v_int2vector int2vector, v_int4range int4range, v_int8range int8range, v_numrange numrange,
    v_daterange daterange, v_tsrange tsrange, v_tstzrange tstzrange, v_mood mood,
    v_posint posint, v_pair pair, v_odd_range odd_range, v_texts text[], v_moods mood[],
    v_pairs pair[], v_numbers int4[][], v_ranges int4range[],
    v_generated int8 generated always as (v_int8 / 2) stored,
    v_identity integer generated always as identity
);

insert into every_type (
    id, v_bool, v_bytea, v_char, v_name, v_int2, v_int4, v_int8, v_float4, v_float8, v_numeric,
    v_money, v_text, v_varchar, v_bpchar, v_json, v_jsonb, v_jsonpath, v_xml, v_uuid, v_bit,
    v_varbit, v_date, v_time, v_timetz, v_timestamp, v_timestamptz, v_interval, v_point, v_line,
    v_lseg, v_box, v_path, v_polygon, v_circle, v_inet, v_cidr, v_macaddr, v_macaddr8, v_tsvector,
    v_tsquery, v_oid, v_regclass, v_regtype, v_regrole, v_regproc, v_regprocedure, v_regoper,
    v_regoperator, v_regconfig, v_regdictionary, v_regnamespace, v_regcollation, v_tid, v_xid,
    v_xid8, v_cid, v_pg_lsn, v_pg_snapshot, v_txid_snapshot, v_refcursor, v_oidvector,
    v_int2vector, v_int4range, v_int8range, v_numrange, v_daterange, v_tsrange, v_tstzrange,
    v_mood, v_posint, v_pair, v_odd_range, v_texts, v_moods, v_pairs, v_numbers, v_ranges
) values (
    1, true, '\x00ff5c0a', 'x', 'a "name"', -32768, -2147483648, -9223372036854775808, 'NaN',
    '-Infinity', '-123456789012345678901234567890.000000000000000000001', '-12.34',
    E'tab\t newline\n backslash\\ quote'' \\. 漢字', 'short', 'pad', '{"a": [1, null]}',
    '{"b": "ü\u00e9"}', '$.a[*] ? (@ > 1)', '<a b="c">&amp;</a>',
    '11111111-2222-3333-4444-555555555555', B'10110', B'1011', '4713-01-01 BC', '24:00:00',
    '23:59:59.999999-15:59', 'infinity', '-infinity', '-178000000 years', '(1e-300,2)', '{1,-1,0}',
    '((1,1),(2,2))', '((3,3),(1,1))', '[(1,1),(2,2)]', '((1,1),(2,2),(3,0))', '<(1,1),0.5>',
    '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
    $$'a':1A 'fat cat':2$$, $$'a' & !( 'b' | 'c':* )$$, 4294967295, 'pg_class', 'integer[]',
    'pg_monitor', 'now', 'abs(integer)', '||/', '+(integer,integer)', 'simple', 'simple',
    'pg_catalog', '"C"', '(0,1)', '3', '18446744073709551615', '4', '16/B374D848', '10:20:10,14',
    '10:20:15', 'cursor', '1 2 3', '4 5', 'empty', '[,5)', '(1.5,]', '[2020-01-01,)',
    '[2020-01-01 00:00, 2020-01-02 00:00)', '[2020-01-01 00:00+00, infinity)', 'naïve', 7,
    '("a ""b""",1.5)', '[1.5,2.5)', '{NULL,"NULL","{}",""}', '{calm,cross}',
    '{"(x,1)","(,)"}', '[0:1][2:3]={{1,2},{3,4}}', '{"[1,2)",empty}'
);
insert into every_type (id) values (2);
insert into every_type (id, v_text, v_bytea)
    select n, repeat(chr(64 + n), 100000), decode(repeat(lpad(to_hex(n), 2, '0'), 70000), 'hex')
    from generate_series(3, 20) n;

-- With numbers of their own, so that two servers can be compared.
select lo_from_bytea(40001, decode(repeat('00ff', 2500000), 'hex'));
select lo_from_bytea(40002, '');
select lo_from_bytea(40003, '\x5c2e0a');
comment on large object 40003 is 'three bytes';
