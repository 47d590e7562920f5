-- Ends the hold on a person. Gives nothing back by itself: the person's next login does, if the
-- directory still says so. Returns whether there was a hold that counted.
CREATE OR REPLACE FUNCTION postern.release_login(p_role text, p_directory_id text, p_by text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role     text;
    v_entry    text;
    v_hold     postern.hold;
    v_released boolean := false;
BEGIN
    PERFORM postern.check_operator(p_by, NULL);
    SELECT p.role_name, p.entry INTO v_role, v_entry
    FROM postern.lock_person(p_role, p_directory_id) p;
    -- Without an entry, a hold by entry is found by the name that it was placed with: the person
    -- may never have had a role, and the directory may be away now.
    FOR v_hold IN
        DELETE FROM postern.hold h
        WHERE h.directory_id = v_entry
           OR (h.role_name = v_role AND (h.directory_id IS NULL OR v_entry IS NULL))
        RETURNING h.*
    LOOP
        IF v_hold.until IS NULL OR v_hold.until > clock_timestamp() THEN
            v_released := true;
            PERFORM postern.log_change('release', COALESCE(v_role, v_hold.role_name, ''),
                COALESCE(v_entry, v_hold.directory_id, ''), '', '{}',
                concat_ws(': ', 'held by ' || v_hold.placed_by, NULLIF(v_hold.reason, '')), p_by);
            PERFORM postern.notify_change('release', COALESCE(v_entry, v_hold.directory_id),
                COALESCE(v_role, v_hold.role_name), p_by);
        END IF;
    END LOOP;
    RETURN v_released;
END
$$;

REVOKE ALL ON FUNCTION postern.release_login(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.release_login(text, text, text) TO :"provisioner";
