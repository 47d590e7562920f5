-- The directory entry whose role has this name at present; null if Postern manages no such role.
CREATE OR REPLACE FUNCTION postern.managed_entry(p_role text)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT m.directory_id
        FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
        WHERE r.rolname = p_role
    );
END
$$;

REVOKE ALL ON FUNCTION postern.managed_entry(text) FROM PUBLIC;
