-- Sets a person's secret from its SCRAM verifier and remembers its fingerprint.
CREATE OR REPLACE FUNCTION postern.set_secret(p_role text, p_verifier text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_replicates boolean := postern.has_replication(p_role);
BEGIN
    -- Before PostgreSQL 16 only a superuser may alter a role with REPLICATION.
    IF v_replicates THEN
        PERFORM postern.set_replication(p_role, false);
    END IF;
    PERFORM postern.write_secret(p_role, p_verifier);
    IF v_replicates THEN
        PERFORM postern.set_replication(p_role, true);
    END IF;
    UPDATE postern.managed_role m
    SET fingerprint = postern.fingerprint(p_verifier)
    FROM pg_roles r
    WHERE r.oid = m.role_oid AND r.rolname = p_role;
END
$$;

REVOKE ALL ON FUNCTION postern.set_secret(text, text) FROM PUBLIC;
