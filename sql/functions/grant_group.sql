-- Makes a person a member of a group's role, and remembers that it was Postern.
CREATE OR REPLACE FUNCTION postern.grant_group(p_role text, p_group text, p_session text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT %I TO %I', p_group, p_role);
    INSERT INTO postern.membership AS k (role_oid, group_oid, session_id)
    SELECT p.oid, g.oid, p_session
    FROM pg_roles p, pg_roles g
    WHERE p.rolname = p_role AND g.rolname = p_group
    ON CONFLICT (role_oid, group_oid) DO UPDATE
    SET granted_at = EXCLUDED.granted_at, session_id = EXCLUDED.session_id;
END
$$;

REVOKE ALL ON FUNCTION postern.grant_group(text, text, text) FROM PUBLIC;
