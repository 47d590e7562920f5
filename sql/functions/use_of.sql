-- Why a role of a person must not be dropped: what it owns, what was granted to it or by it, in
-- which databases. Null if nothing anywhere in the cluster would be lost with it.
-- pg_shdepend has the owners, privileges, default privileges and policies of every database;
-- memberships are in it as far as the role granted them, and the others are looked up.
CREATE OR REPLACE FUNCTION postern.use_of(p_role oid)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owned  text;
    v_groups text;
BEGIN
    IF EXISTS (SELECT FROM postern.managed_role m
        WHERE m.role_oid = p_role AND m.origin = 'adopted')
    THEN
        RETURN 'it was there before Postern';
    END IF;
    SELECT string_agg(u.line, ', ' ORDER BY u.line COLLATE "C") INTO v_owned
    FROM (
        SELECT format('%s in %s', string_agg(DISTINCT CASE d.deptype
                WHEN 'o' THEN 'objects of its own' ELSE 'privileges' END, ' and '),
            CASE WHEN b.datname IS NULL THEN 'the whole cluster'
                ELSE format('database %I', b.datname) END) AS line
        FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = p_role
        GROUP BY b.datname
    ) u;
    IF v_owned IS NOT NULL THEN
        RETURN 'it has ' || v_owned;
    END IF;
    -- Since PostgreSQL 16 postern_people is a member of every role that it has made.
    SELECT string_agg(format('%I', r.rolname), ', ' ORDER BY r.rolname::text COLLATE "C")
    INTO v_groups
    FROM pg_auth_members m
    JOIN pg_roles r ON r.oid = CASE m.member WHEN p_role THEN m.roleid ELSE m.member END
    WHERE (m.member = p_role OR m.roleid = p_role)
      AND m.member <> 'postern_people'::regrole;
    RETURN 'an administrator granted memberships: ' || v_groups;
END
$$;

REVOKE ALL ON FUNCTION postern.use_of(oid) FROM PUBLIC;
