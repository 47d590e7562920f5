-- What every test file begins with: a transaction that is rolled back at the end, and four
-- functions that print TAP. Called as
--     psql -X -v ON_ERROR_STOP=1 -f FILE
-- by a superuser, in a database that has the schema installed for a provisioner called postern.
-- psql ends with 3 when a test has failed. Needs no extension, so that it runs on every server.
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset null ''
SET client_min_messages = warning;
BEGIN;

-- Sequences keep counting through a rollback to a savepoint, which tables do not.
CREATE TEMPORARY SEQUENCE tap_run;
CREATE TEMPORARY SEQUENCE tap_failed;
GRANT ALL ON SEQUENCE tap_run, tap_failed TO PUBLIC;

CREATE FUNCTION pg_temp.ok(p_held boolean, p_claim text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF p_held IS TRUE THEN
        RETURN format('ok %s - %s', nextval('pg_temp.tap_run'), p_claim);
    END IF;
    PERFORM nextval('pg_temp.tap_failed');
    RETURN format('not ok %s - %s', nextval('pg_temp.tap_run'), p_claim);
END
$$;

CREATE FUNCTION pg_temp.same(p_found text, p_wanted text, p_claim text) RETURNS text
LANGUAGE sql AS $$
    SELECT pg_temp.ok(p_found IS NOT DISTINCT FROM p_wanted, p_claim)
        || CASE WHEN p_found IS DISTINCT FROM p_wanted
            THEN format(E'\n# found:  %s\n# wanted: %s', p_found, p_wanted) ELSE '' END
$$;

-- Runs a statement that must fail with this SQLSTATE; what it did is undone.
CREATE FUNCTION pg_temp.fails(p_sql text, p_code text, p_claim text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE p_sql;
    EXCEPTION WHEN OTHERS THEN
        RETURN pg_temp.same(format('%s %s', SQLSTATE, CASE WHEN SQLSTATE <> p_code
            THEN SQLERRM END), p_code || ' ', p_claim);
    END;
    RETURN pg_temp.ok(false, p_claim || ' (it did not fail)');
END
$$;

CREATE FUNCTION pg_temp.done() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_failed bigint := nextval('pg_temp.tap_failed') - 1;
    v_run    bigint := nextval('pg_temp.tap_run') - 1;
BEGIN
    IF v_failed > 0 THEN
        RAISE EXCEPTION '% of % failed', v_failed, v_run;
    END IF;
    RETURN format('1..%s', v_run);
END
$$;

-- A well-formed verifier of no known password, different for each number.
CREATE FUNCTION pg_temp.verifier(p_number integer) RETURNS text
LANGUAGE sql AS $$
    SELECT 'SCRAM-SHA-256$4096:' || encode(decode(md5('salt'), 'hex'), 'base64') || '$'
        || encode(sha256(convert_to('stored' || p_number, 'UTF8')), 'base64') || ':'
        || encode(sha256(convert_to('server' || p_number, 'UTF8')), 'base64')
$$;

-- One login, as one line: what was done.
CREATE FUNCTION pg_temp.login(
    p_role text, p_groups text[], p_verifier integer DEFAULT 1, p_missing text DEFAULT 'create',
    p_force boolean DEFAULT false, p_id text DEFAULT NULL
) RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(a.action || ' ' || a.target, ', ' ORDER BY a.step)
    FROM postern.apply_login(p_role, COALESCE(p_id, 'guid:' || p_role), p_role,
        'cn=' || p_role, p_groups, pg_temp.verifier(p_verifier), p_missing, p_force, 'session') a
$$;

-- The roles that a role is a direct member of.
CREATE FUNCTION pg_temp.member_of(p_role text) RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(g.rolname, ', ' ORDER BY g.rolname::text COLLATE "C")
    FROM pg_catalog.pg_auth_members m
    JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
    JOIN pg_catalog.pg_roles p ON p.oid = m.member
    WHERE p.rolname = p_role
$$;
