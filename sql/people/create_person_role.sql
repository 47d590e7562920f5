-- Makes the role of a person, with its secret, in one statement.
-- The routines of this folder belong to postern_people and not to postern_owner: since
-- PostgreSQL 16 the creator of a role is a member of it, and every GRANT collects all roles that
-- its grantor is a member of. The grantor of groups must not be the creator of thousands of
-- people.
-- An error is raised again without its context, because the context quotes the statement, and
-- the statement has the verifier.
CREATE OR REPLACE FUNCTION postern.create_person_role(p_role text, p_verifier text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.clear_self_grant();
    EXECUTE format(
        'CREATE ROLE %I LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION '
        'PASSWORD %L', p_role, p_verifier);
EXCEPTION WHEN query_canceled OR OTHERS THEN -- OTHERS leaves a timeout out
    RAISE EXCEPTION USING
        ERRCODE = SQLSTATE,
        MESSAGE = replace(SQLERRM, p_verifier, '(secret)');
END
$$;

REVOKE ALL ON FUNCTION postern.create_person_role(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.create_person_role(text, text) TO postern_owner;
