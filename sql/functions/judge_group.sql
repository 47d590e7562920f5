-- What becomes of one wanted group: `keep`, `create`, `skip` or `refuse`, and why.
CREATE OR REPLACE FUNCTION postern.judge_group(p_group text, p_role text, p_missing text)
RETURNS TABLE (verdict text, note text, code text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_why text := postern.reserved_name(p_group);
    v_oid oid;
BEGIN
    IF octet_length(p_group) > 63 THEN
        RETURN QUERY SELECT 'refuse', format('group %L: %s', p_group, v_why), 'PN003';
        RETURN;
    END IF;
    v_why := COALESCE(v_why, CASE WHEN p_group = p_role THEN 'it is the person''s own role' END);
    SELECT r.oid INTO v_oid FROM pg_roles r WHERE r.rolname = p_group;
    IF v_why IS NULL AND v_oid IS NULL THEN
        RETURN QUERY SELECT
            CASE p_missing WHEN 'create' THEN 'create' WHEN 'skip' THEN 'skip' ELSE 'refuse' END,
            format('role %I does not exist', p_group),
            CASE WHEN p_missing NOT IN ('create', 'skip') THEN 'PN004' END;
        RETURN;
    END IF;
    v_why := COALESCE(v_why, postern.privilege_of(v_oid), CASE
        WHEN EXISTS (SELECT FROM postern.managed_role m WHERE m.role_oid = v_oid)
            THEN 'it is the role of a person'
        WHEN NOT EXISTS (SELECT FROM postern.group_role g WHERE g.role_oid = v_oid)
            THEN format('not managed by Postern; to hand it over, an administrator runs: '
                'SELECT postern.adopt_group(%L)', p_group)
        WHEN NOT postern.may_grant(v_oid)
            THEN format('postern_owner lacks ADMIN OPTION on it; an administrator runs: '
                'SELECT postern.adopt_group(%L)', p_group)
        WHEN EXISTS (SELECT FROM pg_roles r WHERE r.rolname = p_role
                AND pg_has_role(v_oid, r.oid, 'MEMBER'))
            THEN format('it is itself a member of %I', p_role)
    END);
    RETURN QUERY SELECT CASE WHEN v_why IS NULL THEN 'keep' ELSE 'skip' END, v_why, NULL;
END
$$;

REVOKE ALL ON FUNCTION postern.judge_group(text, text, text) FROM PUBLIC;
