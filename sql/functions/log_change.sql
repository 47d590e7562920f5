-- Writes down one change.
-- Version 1 knew no operator; its routine would be a second one of the same name.
DROP FUNCTION IF EXISTS postern.log_change(text, text, text, text, text[], text);
CREATE OR REPLACE FUNCTION postern.log_change(
    p_action text, p_role text, p_directory_id text, p_session text, p_groups text[],
    p_detail text, p_operator text DEFAULT ''
)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO postern.change_log
        (action, role_name, directory_id, session_id, groups, detail, operator)
    VALUES (p_action, p_role, p_directory_id, p_session, p_groups, p_detail, p_operator)
$$;

REVOKE ALL ON FUNCTION postern.log_change(text, text, text, text, text[], text, text) FROM PUBLIC;
