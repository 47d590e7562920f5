-- What apply_login would do, without doing it. A refusal is a row, with its code in the note.
CREATE OR REPLACE FUNCTION postern.plan_login(
    p_role         text,
    p_directory_id text,
    p_login        text,
    p_dn           text,
    p_groups       text[],
    p_verifier     text,
    p_missing      text,
    p_force_secret boolean
)
RETURNS TABLE (step integer, action text, target text, note text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.check_wish(
        p_role, p_directory_id, p_login, p_dn, p_groups, p_verifier, p_missing, '');
    RETURN QUERY
    SELECT l.step, l.action, l.target, concat_ws(': ', l.code, l.note)
    FROM postern.login_plan(
        p_role, p_directory_id, p_login, p_dn, p_groups, p_verifier, p_missing, p_force_secret
    ) l
    ORDER BY l.step;
END
$$;

REVOKE ALL ON FUNCTION
    postern.plan_login(text, text, text, text, text[], text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    postern.plan_login(text, text, text, text, text[], text, text, boolean) TO :"provisioner";
