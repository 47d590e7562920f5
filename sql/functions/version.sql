-- The version of the installed schema, for the program to compare with its own.
CREATE OR REPLACE FUNCTION postern.version()
RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT v.version FROM postern.schema_version v ORDER BY v.id DESC LIMIT 1
    );
END
$$;

REVOKE ALL ON FUNCTION postern.version() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.version() TO :"provisioner";
