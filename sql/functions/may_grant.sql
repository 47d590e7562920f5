-- True if postern_owner can grant this role. Before PostgreSQL 16 CREATEROLE is enough; since
-- then it takes ADMIN OPTION, which the creator of a role has and adopt_group arranges.
-- Looks the one row up: pg_has_role would collect every role that postern_owner has ever made,
-- anew after each change of any membership.
CREATE OR REPLACE FUNCTION postern.may_grant(p_role oid)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN current_setting('server_version_num')::integer < 160000 OR EXISTS (
        SELECT FROM pg_auth_members m
        WHERE m.roleid = p_role AND m.member = 'postern_owner'::regrole AND m.admin_option
    );
END
$$;

REVOKE ALL ON FUNCTION postern.may_grant(oid) FROM PUBLIC;
