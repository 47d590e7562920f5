-- Makes a person's role and memberships match what the directory says, and returns what was
-- done. Executes the rows of login_plan and nothing else; with nothing to do, writes nothing.
CREATE OR REPLACE FUNCTION postern.apply_login(
    p_role         text,
    p_directory_id text,
    p_login        text,
    p_dn           text,
    p_groups       text[],
    p_verifier     text,
    p_missing      text,
    p_force_secret boolean,
    p_session      text
)
RETURNS TABLE (step integer, action text, target text, note text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_step    record;
    v_changed boolean := false;
    v_groups  boolean := false;
BEGIN
    PERFORM postern.check_wish(
        p_role, p_directory_id, p_login, p_dn, p_groups, p_verifier, p_missing, p_session);
    IF p_verifier IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'a login needs a verifier';
    END IF;
    PERFORM postern.lock_entry(p_directory_id);
    PERFORM postern.lock_login(p_role, p_groups, p_missing);
    FOR v_step IN
        SELECT l.* FROM postern.login_plan(
            p_role, p_directory_id, p_login, p_dn, p_groups, p_verifier, p_missing,
            p_force_secret
        ) l
        ORDER BY l.step
    LOOP
        CASE v_step.action
            WHEN 'refuse' THEN
                RAISE EXCEPTION USING ERRCODE = v_step.code, MESSAGE = v_step.note;
            WHEN 'create_role' THEN
                PERFORM postern.create_person(
                    p_role, p_directory_id, p_login, p_dn, p_verifier);
            WHEN 'enable_role' THEN PERFORM postern.set_login(p_role, true);
            WHEN 'set_secret' THEN PERFORM postern.set_secret(p_role, p_verifier);
            WHEN 'create_group' THEN PERFORM postern.create_group(v_step.target);
            WHEN 'grant' THEN PERFORM postern.grant_group(p_role, v_step.target, p_session);
            WHEN 'revoke' THEN PERFORM postern.revoke_group(p_role, v_step.target);
            WHEN 'record_entry' THEN NULL; -- done at the end, with whatever else changed
            WHEN 'skip_group' THEN NULL;
        END CASE;
        IF v_step.action <> 'skip_group' THEN
            v_changed := true;
            v_groups := v_groups OR v_step.action IN ('grant', 'revoke');
            PERFORM postern.log_change(v_step.action, p_role, p_directory_id, p_session,
                p_groups, concat_ws(': ', v_step.target, NULLIF(v_step.note, '')));
        END IF;
        RETURN QUERY SELECT v_step.step, v_step.action, v_step.target, v_step.note;
    END LOOP;
    IF v_changed THEN
        PERFORM postern.record_entry(p_role, p_login, p_dn);
    END IF;
    IF v_groups THEN
        PERFORM postern.notify_change('change', p_directory_id, p_role, NULL);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION
    postern.apply_login(text, text, text, text, text[], text, text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.apply_login(text, text, text, text, text[], text, text, boolean, text)
    TO :"provisioner";
