-- Takes LOGIN away from a managed role, found by name, by directory entry or by both.
-- Returns its name, or null if Postern manages no such role.
-- Has to be committed before revoke_login is called: only then can no new backend appear between
-- the look at the running ones and the end of the transaction.
CREATE OR REPLACE FUNCTION postern.disable_login(
    p_role text, p_directory_id text, p_session text, p_why text
)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role    text;
    v_managed postern.managed_role;
    v_login   boolean;
BEGIN
    -- A first login that is under way makes the role that is looked for here.
    PERFORM postern.lock_entry(p_directory_id);
    v_role := postern.managed_name(p_role, p_directory_id);
    IF v_role IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM postern.lock_login(v_role, '{}', 'skip');
    SELECT r.rolcanlogin INTO v_login FROM pg_roles r WHERE r.rolname = v_role;
    SELECT m.* INTO v_managed
    FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
    WHERE r.rolname = v_role;
    -- Without LOGIN and without a date of ours, an administrator was here before: theirs to undo.
    IF v_login THEN
        -- The attribute is worth something without LOGIN: a session may still be there. And
        -- before PostgreSQL 16 only a superuser may alter a role that has it.
        IF postern.has_replication(v_role) THEN
            PERFORM postern.set_replication(v_role, false);
        END IF;
        PERFORM postern.set_login(v_role, false);
        UPDATE postern.managed_role m
        SET disabled_at = clock_timestamp(), disabled_why = COALESCE(p_why, '')
        WHERE m.role_oid = v_managed.role_oid;
        PERFORM postern.log_change('disable_role', v_role, v_managed.directory_id,
            COALESCE(p_session, ''), '{}', COALESCE(p_why, ''));
        PERFORM postern.notify_change('revoke', v_managed.directory_id, v_role, NULL);
    END IF;
    RETURN v_role;
END
$$;

REVOKE ALL ON FUNCTION postern.disable_login(text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.disable_login(text, text, text, text) TO :"provisioner";
