-- Gives LOGIN to a person's role or takes it away.
CREATE OR REPLACE FUNCTION postern.set_login(p_role text, p_login boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format(CASE WHEN p_login THEN 'ALTER ROLE %I LOGIN' ELSE 'ALTER ROLE %I NOLOGIN' END,
        p_role);
END
$$;

REVOKE ALL ON FUNCTION postern.set_login(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.set_login(text, boolean) TO postern_owner;
