-- Why a role is too powerful for Postern to grant or to alter; null if it is not.
-- Looks at the role itself and at every role that it is a member of, directly or not, because
-- SET ROLE reaches those as well. A membership that Postern granted does not count: it is what a
-- sync takes away again when the group's role has become powerful. Nor does REPLICATION of a
-- managed role count, where Postern can take it away.
CREATE OR REPLACE FUNCTION postern.privilege_of(p_role oid)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        WITH RECURSIVE reached (role_oid) AS (
            SELECT p_role
            UNION
            SELECT m.roleid
            FROM reached r
            JOIN pg_auth_members m ON m.member = r.role_oid
            WHERE NOT EXISTS (
                SELECT FROM postern.membership k
                WHERE k.role_oid = m.member AND k.group_oid = m.roleid
                  AND m.grantor = 'postern_owner'::regrole
            )
        ),
        powerful AS (
            SELECT a.oid, a.rolname, CASE
                WHEN a.rolsuper THEN 'a superuser'
                WHEN a.rolcreaterole THEN 'a role with CREATEROLE'
                WHEN a.rolreplication AND NOT (
                    a.oid = p_role AND postern.has_replication(a.rolname)
                    AND EXISTS (SELECT FROM postern.managed_role m WHERE m.role_oid = a.oid)
                ) THEN 'a role with REPLICATION'
                WHEN a.rolbypassrls THEN 'a role with BYPASSRLS'
                WHEN a.rolname IN ('pg_execute_server_program', 'pg_read_server_files',
                    'pg_write_server_files') THEN 'as good as a superuser'
                WHEN a.oid <> p_role AND postern.reserved_name(a.rolname) LIKE '%managed service'
                    THEN 'a role of the managed service'
                WHEN EXISTS (
                    SELECT FROM pg_proc f
                    WHERE f.pronamespace = 'postern'::regnamespace AND f.proname = 'apply_login'
                      AND has_function_privilege(a.oid, f.oid, 'EXECUTE')
                ) THEN 'a provisioner of Postern'
            END AS why
            FROM reached r
            JOIN pg_roles a ON a.oid = r.role_oid
        )
        SELECT CASE WHEN p.oid = p_role THEN 'it is ' || p.why
            ELSE format('it is a member of %I, which is %s', p.rolname, p.why) END
        FROM powerful p
        WHERE p.why IS NOT NULL
        ORDER BY p.oid <> p_role, p.rolname
        LIMIT 1
    );
END
$$;

REVOKE ALL ON FUNCTION postern.privilege_of(oid) FROM PUBLIC;
