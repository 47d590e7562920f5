-- Why a person may not have this role: no row, or one with the SQLSTATE and the words.
CREATE OR REPLACE FUNCTION postern.role_refusal(p_role text, p_directory_id text)
RETURNS TABLE (code text, note text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_why     text := postern.reserved_name(p_role);
    v_oid     oid;
    v_login   boolean;
    v_managed postern.managed_role;
    v_other   text;
    v_hold    postern.hold;
BEGIN
    IF v_why IS NOT NULL THEN
        RETURN QUERY SELECT 'PN003', format('role %L cannot be a person''s: %s', p_role, v_why);
        RETURN;
    END IF;
    SELECT h.* INTO v_hold FROM postern.hold_of(p_role, p_directory_id) h;
    IF FOUND THEN
        RETURN QUERY SELECT 'PN008', format('%s holds this person%s: %s; postern restore ends it',
            v_hold.placed_by, COALESCE(' until ' || v_hold.until, ''), v_hold.reason);
        RETURN;
    END IF;
    SELECT r.oid, r.rolcanlogin INTO v_oid, v_login FROM pg_roles r WHERE r.rolname = p_role;
    v_why := postern.privilege_of(v_oid);
    IF v_why IS NOT NULL THEN
        RETURN QUERY SELECT 'PN003', format('role %I cannot be a person''s: %s', p_role, v_why);
        RETURN;
    END IF;
    SELECT r.rolname::text INTO v_other
    FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
    WHERE m.directory_id = p_directory_id AND r.rolname <> p_role;
    IF FOUND THEN
        RETURN QUERY SELECT 'PN006', format(
            'directory entry %s already has role %I and is now called %I; to keep what the role '
            'owns, an administrator runs: ALTER ROLE %2$I RENAME TO %3$I',
            p_directory_id, v_other, p_role);
        RETURN;
    END IF;
    IF v_oid IS NULL THEN
        RETURN;
    END IF;
    SELECT m.* INTO v_managed FROM postern.managed_role m WHERE m.role_oid = v_oid;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'PN001', format(
            'role %I exists and is not managed by Postern; to hand it over, an administrator '
            'runs: SELECT postern.adopt_role(%L, %L)', p_role, p_role, p_directory_id);
    ELSIF v_managed.directory_id <> p_directory_id THEN
        RETURN QUERY SELECT 'PN002', format(
            'role %I belongs to directory entry %s, not to %s; the new person does not inherit '
            'it, an administrator renames or drops it', p_role, v_managed.directory_id,
            p_directory_id);
    ELSIF NOT v_login AND v_managed.disabled_at IS NULL THEN
        RETURN QUERY SELECT 'PN007', format(
            'role %I has NOLOGIN, and it was not Postern that disabled it; an administrator '
            'enables it: ALTER ROLE %1$I LOGIN', p_role);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.role_refusal(text, text) FROM PUBLIC;
