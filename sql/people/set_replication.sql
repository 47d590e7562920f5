-- Gives REPLICATION to a person's role or takes it away.
-- PostgreSQL lets only certain roles do that, and an administrator makes the owner of this routine
-- one of them: since version 16 by ALTER ROLE postern_people REPLICATION; before, only a superuser
-- may, and the routine is handed over to one. So it looks at the role by itself.
CREATE OR REPLACE FUNCTION postern.set_replication(p_role text, p_on boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_roles r
        WHERE r.rolname = p_role
          AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolbypassrls)
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %I has other attributes and is no person''s', p_role);
    END IF;
    EXECUTE format(
        CASE WHEN p_on THEN 'ALTER ROLE %I REPLICATION' ELSE 'ALTER ROLE %I NOREPLICATION' END,
        p_role);
END
$$;

REVOKE ALL ON FUNCTION postern.set_replication(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postern.set_replication(text, boolean) TO postern_owner;
