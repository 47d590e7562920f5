-- The hold on the person with this entry and this role, if one counts at this moment.
-- A hold by name is for whoever would have the role; one by entry stays with the person.
CREATE OR REPLACE FUNCTION postern.hold_of(p_role text, p_directory_id text)
RETURNS SETOF postern.hold
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT h.* FROM postern.hold h
    WHERE (h.directory_id = p_directory_id
            OR (h.directory_id IS NULL AND h.role_name = p_role))
      AND (h.until IS NULL OR h.until > clock_timestamp())
    ORDER BY h.until DESC NULLS FIRST
    LIMIT 1;
END
$$;

REVOKE ALL ON FUNCTION postern.hold_of(text, text) FROM PUBLIC;
