-- Every hold that counts at this moment, the oldest first, with the present name of the role.
CREATE OR REPLACE FUNCTION postern.list_holds()
RETURNS TABLE (
    role text, directory_id text, until timestamptz, reason text, placed_by text,
    placed_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT COALESCE(postern.managed_name(NULL, h.directory_id), h.role_name), h.directory_id,
        h.until, h.reason, h.placed_by, h.placed_at
    FROM postern.hold h
    WHERE h.until IS NULL OR h.until > clock_timestamp()
    ORDER BY h.placed_at, h.id;
END
$$;

REVOKE ALL ON FUNCTION postern.list_holds() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.list_holds() TO :"provisioner";
