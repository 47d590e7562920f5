-- Takes everything away from a managed role that Postern gave: LOGIN, the memberships that
-- Postern granted, and its live backends. The role itself stays, with what it owns.
-- Returns how many backends are left after p_wait_ms milliseconds; the caller asks again until
-- none is. Null if Postern manages no such role.
CREATE OR REPLACE FUNCTION postern.revoke_login(
    p_role text, p_directory_id text, p_session text, p_why text, p_wait_ms integer
)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role   text := postern.disable_login(p_role, p_directory_id, p_session, p_why);
    v_oid    oid;
    v_entry  text;
    v_group  text;
    v_action text;
BEGIN
    IF v_role IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT m.role_oid, m.directory_id INTO STRICT v_oid, v_entry
    FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
    WHERE r.rolname = v_role;
    FOR v_group IN
        SELECT g.rolname
        FROM postern.membership k JOIN pg_roles g ON g.oid = k.group_oid
        WHERE k.role_oid = v_oid
        ORDER BY g.rolname::text COLLATE "C"
    LOOP
        -- A group's role that became a superuser is out of reach; that must not save the rest.
        BEGIN
            PERFORM postern.revoke_group(v_role, v_group);
            v_action := 'revoke';
        EXCEPTION WHEN insufficient_privilege THEN
            v_action := 'revoke_failed';
        END;
        PERFORM postern.log_change(
            v_action, v_role, v_entry, COALESCE(p_session, ''), '{}', v_group);
        -- Once a transaction, however often it is asked for.
        PERFORM postern.notify_change('revoke', v_entry, v_role, NULL);
    END LOOP;
    RETURN postern.end_backends(v_oid, LEAST(GREATEST(COALESCE(p_wait_ms, 0), 0), 60000));
END
$$;

REVOKE ALL ON FUNCTION postern.revoke_login(text, text, text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.revoke_login(text, text, text, text, integer) TO :"provisioner";
