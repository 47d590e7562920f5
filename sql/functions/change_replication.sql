-- Makes the attribute REPLICATION of a person who has a role match what the group rules say now.
-- Returns what was done; nothing where Postern manages no role of this entry, or has taken LOGIN
-- away from it. Where PostgreSQL does not let Postern give the attribute, that is said and no
-- error: the login goes on, and a replication connection is refused by the server.
CREATE OR REPLACE FUNCTION postern.change_replication(
    p_directory_id text, p_wanted boolean, p_session text
)
RETURNS TABLE (action text, target text, note text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_has boolean;
BEGIN
    IF COALESCE(p_directory_id, '') = '' OR p_wanted IS NULL OR p_session IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'directory_id, wanted and session are needed';
    END IF;
    PERFORM postern.lock_entry(p_directory_id);
    target := postern.managed_name(NULL, p_directory_id);
    IF target IS NULL THEN
        RETURN;
    END IF;
    PERFORM postern.lock_login(target, '{}', 'skip');
    SELECT r.rolreplication INTO v_has FROM pg_roles r WHERE r.rolname = target AND r.rolcanlogin;
    IF NOT FOUND OR v_has = p_wanted THEN
        RETURN;
    END IF;
    note := '';
    IF NOT postern.may_set_replication() THEN
        action := 'skip_replication';
        note := 'PostgreSQL does not let Postern change it; postern check says how it would';
        RETURN NEXT;
        RETURN;
    END IF;
    action := CASE WHEN p_wanted THEN 'allow_replication' ELSE 'deny_replication' END;
    PERFORM postern.set_replication(target, p_wanted);
    PERFORM postern.log_change(action, target, p_directory_id, p_session, '{}', '');
    RETURN NEXT;
END
$$;

REVOKE ALL ON FUNCTION postern.change_replication(text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.change_replication(text, boolean, text) TO :"provisioner";
