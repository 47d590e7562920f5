-- Makes the role of a group: no login, no rights. The administrator grants to it.
CREATE OR REPLACE FUNCTION postern.create_group(p_group text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.clear_self_grant();
    EXECUTE format(
        'CREATE ROLE %I NOLOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION',
        p_group);
    INSERT INTO postern.group_role (role_oid, role_name, origin)
    SELECT r.oid, p_group, 'created' FROM pg_roles r WHERE r.rolname = p_group;
END
$$;

REVOKE ALL ON FUNCTION postern.create_group(text) FROM PUBLIC;
