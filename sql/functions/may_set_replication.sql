-- Whether PostgreSQL lets set_replication do what it is for; see there.
CREATE OR REPLACE FUNCTION postern.may_set_replication()
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_proc f JOIN pg_roles o ON o.oid = f.proowner
        WHERE f.pronamespace = 'postern'::regnamespace AND f.proname = 'set_replication'
          AND (o.rolsuper OR o.rolreplication
              AND current_setting('server_version_num')::integer >= 160000)
    );
END
$$;

REVOKE ALL ON FUNCTION postern.may_set_replication() FROM PUBLIC;
