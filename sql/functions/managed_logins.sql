-- The roles of people, each with what Postern has given it: for p_directory_id that of this entry;
-- for null a page of all, in the order of their entries, those after p_after, p_limit at most.
CREATE OR REPLACE FUNCTION postern.managed_logins(
    p_directory_id text, p_after text, p_limit integer
)
RETURNS TABLE (
    role text, directory_id text, login text, dn text, can_login boolean, held boolean,
    groups text[], synced_at timestamptz, disabled_at timestamptz, disabled_why text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_page oid[];
BEGIN
    IF p_directory_id IS NULL THEN
        v_page := ARRAY(
            SELECT m.role_oid
            FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
            WHERE m.directory_id > COALESCE(p_after, '')
            ORDER BY m.directory_id
            LIMIT p_limit);
    ELSE
        v_page := ARRAY(
            SELECT m.role_oid FROM postern.managed_role m
            WHERE m.directory_id = p_directory_id);
    END IF;
    RETURN QUERY
    SELECT r.rolname::text, m.directory_id, m.login, m.dn, r.rolcanlogin,
        EXISTS (SELECT FROM postern.hold_of(r.rolname::text, m.directory_id)),
        ARRAY(
            SELECT g.rolname::text
            FROM postern.membership k JOIN pg_roles g ON g.oid = k.group_oid
            WHERE k.role_oid = m.role_oid
              AND postern.granted_by_postern(k.role_oid, k.group_oid)
            ORDER BY g.rolname::text COLLATE "C"),
        m.synced_at, m.disabled_at, m.disabled_why
    FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
    WHERE m.role_oid = ANY (v_page)
    ORDER BY m.directory_id;
END
$$;

REVOKE ALL ON FUNCTION postern.managed_logins(text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.managed_logins(text, text, integer) TO :"provisioner";
