-- Whether a role has REPLICATION and Postern can take it away again.
CREATE OR REPLACE FUNCTION postern.has_replication(p_role text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN postern.may_set_replication() AND EXISTS (
        SELECT FROM pg_roles r WHERE r.rolname = p_role AND r.rolreplication
    );
END
$$;

REVOKE ALL ON FUNCTION postern.has_replication(text) FROM PUBLIC;
