-- The whole plan of a login, in the order of execution, refusals first. Reads only.
-- plan_login shows it and apply_login executes it; there is no other source of steps.
CREATE OR REPLACE FUNCTION postern.login_plan(
    p_role         text,
    p_directory_id text,
    p_login        text,
    p_dn           text,
    p_groups       text[],
    p_verifier     text,
    p_missing      text,
    p_force_secret boolean
)
RETURNS TABLE (step integer, action text, target text, note text, code text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT row_number() OVER (ORDER BY s.rank, s.place, s.target COLLATE "C")::integer,
        s.action, s.target, s.note, s.code
    FROM (
        SELECT CASE r.action WHEN 'refuse' THEN 0 ELSE 1 END AS rank, r.place::integer AS place,
            r.action, r.target, r.note, r.code
        FROM postern.role_plan(
            p_role, p_directory_id, p_login, p_dn, p_verifier, p_force_secret
        ) WITH ORDINALITY AS r (action, target, note, code, place)
        UNION ALL
        SELECT g.rank, 9, g.action, g.target, g.note, g.code
        FROM postern.group_plan(p_role, p_groups, p_missing) g
    ) s;
END
$$;

REVOKE ALL ON FUNCTION
    postern.login_plan(text, text, text, text, text[], text, text, boolean) FROM PUBLIC;
