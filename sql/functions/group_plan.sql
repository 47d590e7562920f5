-- What has to change in a person's memberships. Reads only.
-- Grants and revokes come out in the order of the groups' names, the same for everybody: two
-- logins that change the same groups then wait for each other instead of deadlocking.
CREATE OR REPLACE FUNCTION postern.group_plan(p_role text, p_groups text[], p_missing text)
RETURNS TABLE (rank integer, action text, target text, note text, code text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH wanted AS (
        SELECT w.name, j.verdict, j.note, j.code, r.oid
        FROM (SELECT DISTINCT g.name FROM unnest(p_groups) AS g (name)) w
        CROSS JOIN LATERAL postern.judge_group(w.name, p_role, p_missing) j
        LEFT JOIN pg_roles r ON r.rolname = w.name
    ),
    person AS (
        SELECT r.oid FROM pg_roles r WHERE r.rolname = p_role
    ),
    granted AS (
        SELECT g.oid, g.rolname::text AS name, g.rolsuper,
            postern.granted_by_postern(k.role_oid, k.group_oid) AS live
        FROM postern.membership k
        JOIN person p ON p.oid = k.role_oid
        JOIN pg_roles g ON g.oid = k.group_oid
    )
    SELECT 0, 'refuse', w.name, w.note, w.code FROM wanted w WHERE w.verdict = 'refuse'
    UNION ALL
    SELECT 0, 'refuse', p_role, format('role %I has no group left that counts', p_role), 'PN005'
    WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.verdict IN ('keep', 'create', 'refuse'))
    UNION ALL
    SELECT 0, 'refuse', g.name, format(
        'role %I, which Postern granted, has become a superuser; an administrator runs: '
        'REVOKE %1$I FROM %2$I', g.name, p_role), 'PN003'
    FROM granted g WHERE g.live AND g.rolsuper
    UNION ALL
    SELECT 2, 'create_group', w.name, 'NOLOGIN, without rights', NULL
    FROM wanted w WHERE w.verdict = 'create'
    UNION ALL
    SELECT 3, 'grant', w.name, '', NULL
    FROM wanted w
    WHERE w.verdict = 'create' OR (w.verdict = 'keep' AND NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN person p ON p.oid = m.member WHERE m.roleid = w.oid
    ))
    UNION ALL
    SELECT 3, 'revoke', g.name, CASE WHEN g.live THEN '' ELSE 'already gone' END, NULL
    FROM granted g
    WHERE NOT EXISTS (
        SELECT FROM wanted w WHERE w.oid = g.oid AND w.verdict = 'keep'
    )
    UNION ALL
    SELECT 4, 'skip_group', w.name, w.note, NULL FROM wanted w WHERE w.verdict = 'skip';
END
$$;

REVOKE ALL ON FUNCTION postern.group_plan(text, text[], text) FROM PUBLIC;
