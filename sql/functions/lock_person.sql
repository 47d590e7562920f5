-- Who is meant by a role's name, a directory entry or both: the other half is looked up in
-- managed_role, and null where Postern does not know it. No login of this person is under way when
-- it returns, and none begins before the transaction ends.
CREATE OR REPLACE FUNCTION postern.lock_person(p_role text, p_directory_id text)
RETURNS TABLE (role_name text, entry text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_entry text := COALESCE(p_directory_id, postern.managed_entry(p_role));
BEGIN
    IF COALESCE(p_role, p_directory_id, '') = '' OR p_directory_id = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'a role or a directory entry is needed';
    END IF;
    IF v_entry IS NULL THEN
        PERFORM postern.lock_login(p_role, '{}', 'skip');
        -- The login that was waited for may have made the role.
        v_entry := postern.managed_entry(p_role);
    ELSE
        PERFORM postern.lock_entry(v_entry);
    END IF;
    IF postern.managed_entry(p_role) <> v_entry THEN
        RAISE EXCEPTION USING ERRCODE = 'PN002', MESSAGE = format(
            'role %I belongs to directory entry %s, not to %s', p_role,
            postern.managed_entry(p_role), v_entry);
    END IF;
    RETURN QUERY SELECT COALESCE(postern.managed_name(NULL, v_entry), p_role), v_entry;
END
$$;

REVOKE ALL ON FUNCTION postern.lock_person(text, text) FROM PUBLIC;
