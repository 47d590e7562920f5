-- Remembers how the directory calls a person now, and that the role may log in.
CREATE OR REPLACE FUNCTION postern.record_entry(p_role text, p_login text, p_dn text)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE postern.managed_role m
    SET role_name = p_role, login = p_login, dn = p_dn, synced_at = clock_timestamp(),
        disabled_at = NULL, disabled_why = NULL
    FROM pg_roles r
    WHERE r.oid = m.role_oid AND r.rolname = p_role
$$;

REVOKE ALL ON FUNCTION postern.record_entry(text, text, text) FROM PUBLIC;
