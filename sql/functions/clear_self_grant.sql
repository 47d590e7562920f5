-- Keeps PostgreSQL 16 and later from making the creator a full member of the roles that it creates,
-- whatever the caller's createrole_self_grant says; before 16 there is no such setting.
CREATE OR REPLACE FUNCTION postern.clear_self_grant()
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('server_version_num')::integer >= 160000 THEN
        PERFORM set_config('createrole_self_grant', '', true);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.clear_self_grant() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.clear_self_grant() TO postern_people;
