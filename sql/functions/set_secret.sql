-- Sets a person's secret from its SCRAM verifier and remembers its fingerprint.
CREATE OR REPLACE FUNCTION postern.set_secret(p_role text, p_verifier text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.write_secret(p_role, p_verifier);
    UPDATE postern.managed_role m
    SET fingerprint = postern.fingerprint(p_verifier)
    FROM pg_roles r
    WHERE r.oid = m.role_oid AND r.rolname = p_role;
END
$$;

REVOKE ALL ON FUNCTION postern.set_secret(text, text) FROM PUBLIC;
