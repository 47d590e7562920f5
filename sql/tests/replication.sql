-- The attribute REPLICATION of people, before and after an administrator has let Postern give it.
\ir tap.sql
CREATE FUNCTION pg_temp.replication(p_role text, p_wanted boolean) RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(c.action || ' ' || c.target, ', ')
    FROM postern.change_replication('guid:' || p_role, p_wanted, 'session') c
$$;
CREATE FUNCTION pg_temp.has(p_role text) RETURNS boolean
LANGUAGE sql AS $$
    SELECT r.rolreplication FROM pg_catalog.pg_roles r WHERE r.rolname = p_role
$$;
SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.login('tp-ann', '{tg-a}');
SELECT pg_temp.login('tp-bob', '{tg-a}');
\o

SELECT pg_temp.same(pg_temp.replication('tp-ann', false), NULL, 'what nobody has is not taken');
SELECT pg_temp.same(pg_temp.replication('tp-nobody', true), NULL, 'nobody gets nothing');
SELECT pg_temp.same(pg_temp.replication('tp-ann', true), 'skip_replication tp-ann',
    'without an administrator''s word it is left out');
SELECT pg_temp.ok(NOT pg_temp.has('tp-ann'), 'and not given');
SELECT pg_temp.fails($$SELECT postern.set_replication('tp-ann', true)$$, '42501',
    'the provisioner cannot give it by itself');
SELECT pg_temp.fails($$SELECT postern.change_replication(NULL, true, 's')$$, '22004',
    'and not to anybody');
RESET SESSION AUTHORIZATION;

ALTER ROLE "tp-bob" REPLICATION;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-bob', '{tg-a}')$$, 'PN003',
    'a role that has it from elsewhere cannot be a person''s while Postern cannot take it');
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-bob" NOREPLICATION;

SELECT current_setting('server_version_num')::integer >= 160000 AS is_16 \gset
\if :is_16
    ALTER ROLE postern_people REPLICATION;
\else
    ALTER FUNCTION postern.set_replication(text, boolean) OWNER TO CURRENT_USER;
\endif
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.replication('tp-ann', true), 'allow_replication tp-ann',
    'with it, it is given');
SELECT pg_temp.ok(pg_temp.has('tp-ann'), 'and is there');
SELECT pg_temp.same(pg_temp.replication('tp-ann', true), NULL, 'once');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-a}', 2), 'set_secret tp-ann',
    'a new secret is written');
SELECT pg_temp.ok(pg_temp.has('tp-ann'), 'and takes nothing away');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b}', 2),
    'create_group tg-b, revoke tg-a, grant tg-b', 'groups come and go as ever');
SELECT pg_temp.same(pg_temp.replication('tp-ann', false), 'deny_replication tp-ann',
    'it is taken away');
SELECT pg_temp.ok(NOT pg_temp.has('tp-ann'), 'and is gone');
\o /dev/null
SELECT pg_temp.replication('tp-ann', true);
SELECT postern.disable_login('tp-ann', NULL, 's', 'why');
\o
SELECT pg_temp.ok(NOT pg_temp.has('tp-ann'), 'whoever loses LOGIN loses it');
SELECT pg_temp.same(pg_temp.replication('tp-ann', true), NULL, 'and does not get it without');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b}', 2), 'enable_role tp-ann',
    'a login comes back without it');
SELECT pg_temp.ok(NOT pg_temp.has('tp-ann'), 'until it is wanted again');
RESET SESSION AUTHORIZATION;
CREATE ROLE "tp-boss" CREATEDB;
SELECT pg_temp.fails($$SELECT postern.set_replication('tp-boss', true)$$, '42501',
    'not even its owner gives it to a role with other attributes');

SELECT pg_temp.done();
ROLLBACK;
