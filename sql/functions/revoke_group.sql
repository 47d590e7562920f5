-- Takes back a membership that Postern granted; one that an administrator granted stays.
CREATE OR REPLACE FUNCTION postern.revoke_group(p_role text, p_group text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role  oid;
    v_group oid;
BEGIN
    SELECT r.oid INTO STRICT v_role FROM pg_roles r WHERE r.rolname = p_role;
    SELECT r.oid INTO STRICT v_group FROM pg_roles r WHERE r.rolname = p_group;
    IF postern.granted_by_postern(v_role, v_group) THEN
        EXECUTE format('REVOKE %I FROM %I', p_group, p_role);
    END IF;
    DELETE FROM postern.membership k WHERE k.role_oid = v_role AND k.group_oid = v_group;
END
$$;

REVOKE ALL ON FUNCTION postern.revoke_group(text, text) FROM PUBLIC;
