-- True if postern_owner can grant this role. Before PostgreSQL 16 CREATEROLE is enough; since
-- then it takes ADMIN OPTION, which the creator of a role has and adopt_group arranges.
CREATE OR REPLACE FUNCTION postern.may_grant(p_role oid)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN current_setting('server_version_num')::integer < 160000
        OR pg_has_role('postern_owner', p_role, 'MEMBER WITH ADMIN OPTION');
END
$$;

REVOKE ALL ON FUNCTION postern.may_grant(oid) FROM PUBLIC;
