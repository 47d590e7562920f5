-- The present name of the role that Postern manages for this entry, or under this name, or both
-- when both are given; null if there is none.
CREATE OR REPLACE FUNCTION postern.managed_name(p_role text, p_directory_id text)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT r.rolname::text
        FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
        WHERE (p_role IS NOT NULL OR p_directory_id IS NOT NULL)
          AND (p_role IS NULL OR r.rolname = p_role)
          AND (p_directory_id IS NULL OR m.directory_id = p_directory_id)
    );
END
$$;

REVOKE ALL ON FUNCTION postern.managed_name(text, text) FROM PUBLIC;
