-- Replaces the secret of a person's role; see create_person_role about the errors.
CREATE OR REPLACE FUNCTION postern.write_secret(p_role text, p_verifier text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER ROLE %I PASSWORD %L', p_role, p_verifier);
EXCEPTION WHEN query_canceled OR OTHERS THEN
    RAISE EXCEPTION USING
        ERRCODE = SQLSTATE,
        MESSAGE = replace(SQLERRM, p_verifier, '(secret)');
END
$$;

REVOKE ALL ON FUNCTION postern.write_secret(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.write_secret(text, text) TO postern_owner;
