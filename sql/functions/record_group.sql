-- The bookkeeping half of adopt_group, with the checks.
CREATE OR REPLACE FUNCTION postern.record_group(p_group text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_oid oid;
    v_why text := postern.reserved_name(p_group);
BEGIN
    SELECT r.oid INTO v_oid FROM pg_roles r WHERE r.rolname = p_group;
    IF v_oid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('role %L does not exist', p_group);
    END IF;
    v_why := COALESCE(v_why, postern.privilege_of(v_oid), (
        SELECT 'it is the role of a person' FROM postern.managed_role m WHERE m.role_oid = v_oid));
    IF v_why IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PN003',
            MESSAGE = format('role %I cannot stand for a group: %s', p_group, v_why);
    END IF;
    INSERT INTO postern.group_role (role_oid, role_name, origin)
    VALUES (v_oid, p_group, 'adopted')
    ON CONFLICT (role_oid) DO NOTHING;
    IF FOUND THEN
        PERFORM postern.log_change('adopt_group', p_group, '', '', ARRAY[p_group], '');
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.record_group(text) FROM PUBLIC;
