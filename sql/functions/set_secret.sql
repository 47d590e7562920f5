-- Sets a person's secret from its SCRAM verifier.
-- An error is raised again without its context, because the context quotes the statement, and
-- the statement has the verifier.
CREATE OR REPLACE FUNCTION postern.set_secret(p_role text, p_verifier text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    BEGIN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', p_role, p_verifier);
    EXCEPTION WHEN query_canceled OR OTHERS THEN -- OTHERS leaves a timeout out
        RAISE EXCEPTION USING
            ERRCODE = SQLSTATE,
            MESSAGE = replace(SQLERRM, p_verifier, '(secret)');
    END;
    UPDATE postern.managed_role m
    SET fingerprint = postern.fingerprint(p_verifier)
    FROM pg_roles r
    WHERE r.oid = m.role_oid AND r.rolname = p_role;
END
$$;

REVOKE ALL ON FUNCTION postern.set_secret(text, text) FROM PUBLIC;
