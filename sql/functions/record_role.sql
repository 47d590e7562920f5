-- The bookkeeping half of adopt_role, with the checks.
CREATE OR REPLACE FUNCTION postern.record_role(p_role text, p_directory_id text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_code text;
    v_note text;
    v_oid  oid;
BEGIN
    IF COALESCE(p_directory_id, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'the directory entry is needed';
    END IF;
    SELECT r.oid INTO v_oid FROM pg_roles r WHERE r.rolname = p_role;
    IF v_oid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('role %L does not exist', p_role);
    END IF;
    SELECT r.code, r.note INTO v_code, v_note
    FROM postern.role_refusal(p_role, p_directory_id) r WHERE r.code NOT IN ('PN001', 'PN007');
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = v_code, MESSAGE = v_note;
    END IF;
    IF EXISTS (SELECT FROM postern.group_role g WHERE g.role_oid = v_oid) THEN
        RAISE EXCEPTION USING ERRCODE = 'PN003',
            MESSAGE = format('role %I cannot be a person''s: it stands for a group', p_role);
    END IF;
    PERFORM postern.forget_dropped();
    INSERT INTO postern.managed_role (role_oid, role_name, directory_id, login, dn, origin)
    VALUES (v_oid, p_role, p_directory_id, p_role, '', 'adopted')
    ON CONFLICT (role_oid) DO NOTHING;
    IF FOUND THEN
        PERFORM postern.log_change('adopt_role', p_role, p_directory_id, '', '{}', '');
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.record_role(text, text) FROM PUBLIC;
