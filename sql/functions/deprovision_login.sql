-- What becomes of the role of somebody who is gone for good: `keep` strips it as revoke_login
-- does; `drop-if-unused` then drops it, unless somebody would miss it. disable_login has to be
-- committed before, as for revoke_login.
-- Returns whether it was dropped, why not, and how many backends are left; the caller asks again
-- until none is. No row if Postern manages no role of this entry.
CREATE OR REPLACE FUNCTION postern.deprovision_login(
    p_directory_id text, p_mode text, p_session text, p_why text, p_wait_ms integer
)
RETURNS TABLE (role text, dropped boolean, note text, backends_left integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_oid oid;
BEGIN
    IF p_mode IS NULL OR p_mode NOT IN ('keep', 'drop-if-unused') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'mode is one of keep, drop-if-unused';
    END IF;
    backends_left := postern.revoke_login(NULL, p_directory_id, p_session, p_why, p_wait_ms);
    role := postern.managed_name(NULL, p_directory_id);
    IF p_directory_id IS NULL OR role IS NULL THEN
        RETURN;
    END IF;
    SELECT m.role_oid INTO v_oid FROM postern.managed_role m
    WHERE m.directory_id = p_directory_id;
    note := CASE
        WHEN p_mode = 'keep' THEN 'kept, as it is configured'
        WHEN backends_left > 0 THEN 'kept while it has sessions'
        ELSE 'kept: ' || postern.use_of(v_oid)
    END;
    IF note IS NULL THEN
        -- Somebody may have granted it something since it was looked at, or made it powerful.
        BEGIN
            PERFORM postern.drop_person_role(role);
            DELETE FROM postern.managed_role m WHERE m.role_oid = v_oid;
            PERFORM postern.log_change('drop_role', role, p_directory_id,
                COALESCE(p_session, ''), '{}', COALESCE(p_why, ''));
            PERFORM postern.notify_change('drop', p_directory_id, role, NULL);
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
            note := 'kept: ' || SQLERRM;
        END;
    END IF;
    dropped := note IS NULL;
    note := COALESCE(note, '');
    RETURN NEXT;
END
$$;

REVOKE ALL ON FUNCTION
    postern.deprovision_login(text, text, text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.deprovision_login(text, text, text, text, integer) TO :"provisioner";
