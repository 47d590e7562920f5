-- What a stolen provisioner's password is good for, and what hostile objects can do.
\ir tap.sql

SELECT pg_temp.same(
    (SELECT concat_ws(' ', rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls)
     FROM pg_roles WHERE rolname = 'postern'), 'f f f f f', 'the provisioner has no attributes');
SELECT pg_temp.same(
    (SELECT concat_ws(' ', rolsuper, rolcanlogin, rolcreaterole, rolcreatedb, rolreplication,
        rolbypassrls) FROM pg_roles WHERE rolname = r.name), 'f f t f f f',
    r.name || ' can create roles, and nobody can log in as it')
FROM unnest(ARRAY['postern_owner', 'postern_people']) AS r (name);
SELECT pg_temp.ok(s.setconfig @> '{log_parameter_max_length=0,log_error_verbosity=terse}',
    'its calls leave no verifier in the server''s log')
FROM pg_roles r LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0
WHERE r.rolname = 'postern';
SELECT pg_temp.same(pg_temp.member_of('postern'), NULL, 'the provisioner is a member of nothing');
SELECT pg_temp.same(
    (SELECT string_agg(f.proname, ' ' ORDER BY f.proname) FROM pg_proc f
     WHERE f.pronamespace = 'postern'::regnamespace
       AND has_function_privilege('postern', f.oid, 'EXECUTE')),
    'apply_login change_memberships change_replication deprovision_login disable_login '
    'hold_login list_holds managed_logins plan_login release_login revoke_login version',
    'the provisioner may call twelve routines');
SELECT pg_temp.same(
    (SELECT string_agg(c.relname, ' ') FROM pg_class c
     WHERE c.relnamespace = 'postern'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'm')
       AND (CASE c.relkind WHEN 'S' THEN has_sequence_privilege('postern', c.oid, 'USAGE')
            ELSE has_table_privilege('postern', c.oid,
                'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END)),
    NULL, 'and may read and write no table');
SELECT pg_temp.same(
    (SELECT string_agg(f.proname, ' ') FROM pg_proc f
     WHERE f.pronamespace = 'postern'::regnamespace
       AND has_function_privilege('public', f.oid, 'EXECUTE')),
    NULL, 'PUBLIC may call nothing');
SELECT pg_temp.ok(NOT has_schema_privilege('public', 'postern', 'USAGE')
    AND NOT has_schema_privilege('postern', 'postern', 'CREATE'),
    'and nobody but the owner puts anything into the schema');
SELECT pg_temp.same(
    (SELECT string_agg(f.proname, ' ') FROM pg_proc f
     WHERE f.pronamespace = 'postern'::regnamespace
       AND f.proconfig IS DISTINCT FROM '{"search_path=pg_catalog, pg_temp"}'),
    NULL, 'every routine has its search_path pinned');
SELECT pg_temp.same(
    (SELECT string_agg(f.proname, ' ' ORDER BY f.proname) FROM pg_proc f
     WHERE f.pronamespace = 'postern'::regnamespace AND NOT f.prosecdef),
    'adopt_group adopt_role', 'only adoption runs with the caller''s rights');
SELECT pg_temp.same(
    (SELECT string_agg(f.proname, ' ' ORDER BY f.proname) FROM pg_proc f
     WHERE f.pronamespace = 'postern'::regnamespace
       AND f.proowner <> 'postern_owner'::regrole),
    'create_person_role drop_person_role set_login set_replication write_secret',
    'five routines act on people');
SELECT pg_temp.same(
    (SELECT string_agg(c.relname, ' ') FROM pg_class c
     WHERE c.relnamespace = 'postern'::regnamespace AND c.relkind = 'r'
       AND has_table_privilege('postern_people', c.oid, 'SELECT, INSERT, UPDATE, DELETE')),
    NULL, 'and can do nothing else');

SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.login('tp-ann', '{tg-a}');
\o
SELECT pg_temp.fails('CREATE ROLE "th-new"', '42501', 'the provisioner creates no roles');
SELECT pg_temp.fails('GRANT "tg-a" TO postern', '42501', 'grants no roles');
SELECT pg_temp.fails('ALTER ROLE "tp-ann" CREATEDB', '42501', 'alters no roles');
SELECT pg_temp.fails('SET ROLE postern_owner', '42501', 'does not become the owner');
SELECT pg_temp.fails('SET ROLE postern_people', '42501', 'or the creator of people');
SELECT pg_temp.fails('SET ROLE "tp-ann"', '42501', 'or a person');
SELECT pg_temp.fails('SELECT * FROM postern.change_log', '42501', 'reads no log');
SELECT pg_temp.ok(NOT pg_has_role('postern', 'pg_signal_backend', 'MEMBER'),
    'may signal nobody''s backend');
SELECT pg_temp.fails('SELECT postern.end_backends(10::oid, 0)', '42501',
    'and has none ended but through a revocation');
SELECT pg_temp.fails($$SELECT postern.adopt_group('tg-a')$$, '42501', 'adopts no group');
SELECT pg_temp.fails($$SELECT postern.write_secret('tp-ann', 'x')$$, '42501',
    'and calls nothing that works inside');

-- Settings and objects of the caller that would bend a careless routine.
CREATE TEMPORARY TABLE pg_roles (oid oid, rolname name, rolsuper boolean);
CREATE TEMPORARY TABLE managed_role (role_oid oid);
CREATE FUNCTION pg_temp.format(text, VARIADIC text[]) RETURNS text
LANGUAGE sql AS $$ SELECT 'ALTER ROLE postern SUPERUSER' $$;
CREATE FUNCTION pg_temp.octet_length(text) RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;
SET search_path = pg_temp, public;
SET standard_conforming_strings = off;
SET backslash_quote = on;
SET quote_all_identifiers = on;
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
SET bytea_output = 'escape';
SELECT pg_temp.same(pg_temp.login(E'tp\\bob''s', E'{tg-a,"tg\\\\q"}'),
    E'create_role tp\\bob''s, create_group tg\\q, grant tg-a, grant tg\\q',
    'a hostile session changes nothing about a sync');
SELECT pg_temp.fails($$SELECT pg_temp.login('postgres', '{tg-a}')$$, 'PN003',
    'nor about a refusal');
RESET SESSION AUTHORIZATION;
RESET ALL;
SELECT pg_temp.ok(NOT rolsuper AND NOT rolcreaterole, 'the provisioner is what it was')
FROM pg_catalog.pg_roles WHERE rolname = 'postern';

-- PostgreSQL 16 and later make the creator of a role a member of it if the session asks.
SELECT current_setting('server_version_num')::integer >= 160000 AS has_self_grant \gset
\if :has_self_grant
SET SESSION AUTHORIZATION postern;
SET createrole_self_grant = 'set, inherit';
\o /dev/null
SELECT pg_temp.login('tp-dan', '{tg-d}');
\o
RESET SESSION AUTHORIZATION;
SELECT pg_temp.ok(
    NOT pg_catalog.pg_has_role('postern_people', 'tp-dan', 'USAGE')
    AND NOT pg_catalog.pg_has_role('postern_owner', 'tg-d', 'USAGE'),
    'a creator cannot act as the roles that it makes');
SELECT pg_temp.ok(NOT EXISTS (
    SELECT FROM pg_catalog.pg_auth_members m
    WHERE m.member IN ('postern_owner'::regrole, 'postern_people'::regrole)
      AND (m.inherit_option OR m.set_option)
      AND m.roleid <> 'pg_signal_backend'::regrole
), 'of none of them');
\endif

-- The log.
SELECT pg_temp.fails(c.sql, '42501', 'the log only grows: ' || c.sql)
FROM unnest(ARRAY['UPDATE postern.change_log SET action = ''x''',
    'DELETE FROM postern.change_log', 'TRUNCATE postern.change_log']) AS c (sql);
SET ROLE postern_owner;
SELECT pg_temp.fails('DELETE FROM postern.change_log', '42501', 'for its owner as well');

RESET ROLE;
SELECT pg_temp.done();
ROLLBACK;
