-- Keeps a person out for p_for_s seconds, or until release_login if that is null: from the commit
-- on apply_login refuses them (PN008), and the role that they have lacks LOGIN. A hold that was
-- there before is replaced. Returns whom it hit; revoke_login then ends what they have open.
-- The length is given and not the end, so that one clock decides: the database's.
CREATE OR REPLACE FUNCTION postern.hold_login(
    p_role text, p_directory_id text, p_for_s bigint, p_reason text, p_by text
)
RETURNS TABLE (held_role text, held_entry text, held_until timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_for_s_max constant bigint := 3155760000; -- a hundred years
    v_role      text;
    v_entry     text;
    v_until     timestamptz;
    v_reason    text := COALESCE(p_reason, '');
BEGIN
    PERFORM postern.check_operator(p_by, p_reason);
    IF p_for_s NOT BETWEEN 1 AND c_for_s_max THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a hold lasts from a second to a hundred years, or until it is released';
    END IF;
    SELECT p.role_name, p.entry INTO v_role, v_entry
    FROM postern.lock_person(p_role, p_directory_id) p;
    v_until := clock_timestamp() + p_for_s * interval '1 second';
    DELETE FROM postern.hold h
    WHERE h.directory_id = v_entry OR (h.directory_id IS NULL AND h.role_name = v_role);
    INSERT INTO postern.hold (directory_id, role_name, until, reason, placed_by)
    VALUES (v_entry, v_role, v_until, v_reason, p_by);
    PERFORM postern.log_change('hold', COALESCE(v_role, ''), COALESCE(v_entry, ''), '', '{}',
        concat_ws(': ', COALESCE('until ' || v_until, 'until released'), NULLIF(v_reason, '')),
        p_by);
    PERFORM postern.disable_login(v_role, NULL, '',
        concat_ws(': ', 'held by ' || p_by, NULLIF(v_reason, '')));
    PERFORM postern.notify_change('hold', v_entry, v_role, p_by);
    RETURN QUERY SELECT v_role, v_entry, v_until;
END
$$;

REVOKE ALL ON FUNCTION postern.hold_login(text, text, bigint, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.hold_login(text, text, bigint, text, text) TO :"provisioner";
