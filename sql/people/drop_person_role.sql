-- Drops the role of a person; PostgreSQL refuses where anything in the cluster depends on it.
CREATE OR REPLACE FUNCTION postern.drop_person_role(p_role text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('DROP ROLE %I', p_role);
END
$$;

REVOKE ALL ON FUNCTION postern.drop_person_role(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.drop_person_role(text) TO postern_owner;
