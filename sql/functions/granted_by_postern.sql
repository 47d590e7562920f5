-- True if this membership exists and it was Postern that granted it.
CREATE OR REPLACE FUNCTION postern.granted_by_postern(p_role oid, p_group oid)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM postern.membership k
        JOIN pg_auth_members m ON m.member = k.role_oid AND m.roleid = k.group_oid
        WHERE k.role_oid = p_role AND k.group_oid = p_group
          AND m.grantor = 'postern_owner'::regrole
    );
END
$$;

REVOKE ALL ON FUNCTION postern.granted_by_postern(oid, oid) FROM PUBLIC;
