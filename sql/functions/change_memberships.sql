-- Makes the memberships of a person who has a role match what the directory says now, between two
-- logins: as apply_login, but it makes no role, gives no LOGIN back and touches no secret.
-- Returns what was done; nothing where Postern manages no role of this entry, or has taken LOGIN
-- away from it: whoever may come back gets the memberships with the next login.
CREATE OR REPLACE FUNCTION postern.change_memberships(
    p_directory_id text, p_groups text[], p_missing text, p_session text
)
RETURNS TABLE (step integer, action text, target text, note text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role  text;
    v_step  record;
    v_moved boolean := false;
BEGIN
    PERFORM postern.check_wish('', p_directory_id, '', '', p_groups, NULL, p_missing, p_session);
    PERFORM postern.lock_entry(p_directory_id);
    v_role := postern.managed_name(NULL, p_directory_id);
    IF v_role IS NULL THEN
        RETURN;
    END IF;
    PERFORM postern.lock_login(v_role, p_groups, p_missing);
    IF EXISTS (SELECT FROM postern.managed_role m
        WHERE m.directory_id = p_directory_id AND m.disabled_at IS NOT NULL)
    THEN
        RETURN;
    END IF;
    FOR v_step IN
        SELECT s.* FROM (
            SELECT 0 AS rank, 'refuse' AS action, v_role AS target, r.note, r.code
            FROM postern.role_refusal(v_role, p_directory_id) r
            UNION ALL
            SELECT g.* FROM postern.group_plan(v_role, p_groups, p_missing) g
        ) s
        ORDER BY s.rank, s.target COLLATE "C"
    LOOP
        CASE v_step.action
            WHEN 'refuse' THEN
                RAISE EXCEPTION USING ERRCODE = v_step.code, MESSAGE = v_step.note;
            WHEN 'create_group' THEN PERFORM postern.create_group(v_step.target);
            WHEN 'grant' THEN PERFORM postern.grant_group(v_role, v_step.target, p_session);
            WHEN 'revoke' THEN PERFORM postern.revoke_group(v_role, v_step.target);
            WHEN 'skip_group' THEN NULL;
        END CASE;
        step := COALESCE(step, 0) + 1;
        action := v_step.action;
        target := v_step.target;
        note := v_step.note;
        RETURN NEXT;
        CONTINUE WHEN action = 'skip_group';
        v_moved := true;
        PERFORM postern.log_change(action, v_role, p_directory_id, p_session, p_groups,
            concat_ws(': ', target, NULLIF(note, '')));
    END LOOP;
    IF v_moved THEN
        UPDATE postern.managed_role m SET synced_at = clock_timestamp()
        WHERE m.directory_id = p_directory_id;
        PERFORM postern.notify_change('change', p_directory_id, v_role, NULL);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.change_memberships(text, text[], text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.change_memberships(text, text[], text, text) TO :"provisioner";
