-- Makes a person's role, with its secret, and remembers whose it is.
CREATE OR REPLACE FUNCTION postern.create_person(
    p_role text, p_directory_id text, p_login text, p_dn text, p_verifier text
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.create_person_role(p_role, p_verifier);
    PERFORM postern.forget_dropped();
    INSERT INTO postern.managed_role
        (role_oid, role_name, directory_id, login, dn, origin, fingerprint)
    SELECT r.oid, p_role, p_directory_id, p_login, p_dn, 'created',
        postern.fingerprint(p_verifier)
    FROM pg_roles r WHERE r.rolname = p_role;
END
$$;

REVOKE ALL ON FUNCTION postern.create_person(text, text, text, text, text) FROM PUBLIC;
