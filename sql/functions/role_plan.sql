-- What has to change on a person's own role. Reads only.
-- Without a verifier (null) nothing is said about the secret.
CREATE OR REPLACE FUNCTION postern.role_plan(
    p_role         text,
    p_directory_id text,
    p_login        text,
    p_dn           text,
    p_verifier     text,
    p_force_secret boolean
)
RETURNS TABLE (action text, target text, note text, code text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_code    text;
    v_note    text;
    v_managed postern.managed_role;
    v_secret  text;
BEGIN
    SELECT r.code, r.note INTO v_code, v_note
    FROM postern.role_refusal(p_role, p_directory_id) r;
    IF FOUND THEN
        RETURN QUERY SELECT 'refuse', p_role, v_note, v_code;
        RETURN;
    END IF;
    SELECT m.* INTO v_managed
    FROM postern.managed_role m JOIN pg_roles r ON r.oid = m.role_oid
    WHERE r.rolname = p_role;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'create_role', p_role,
            'with its secret, first login of ' || p_directory_id, NULL;
    ELSE
        IF v_managed.disabled_at IS NOT NULL THEN
            RETURN QUERY SELECT 'enable_role', p_role, format('disabled at %s: %s',
                v_managed.disabled_at, v_managed.disabled_why), NULL;
        END IF;
        IF (v_managed.role_name, v_managed.login, v_managed.dn) <> (p_role, p_login, p_dn) THEN
            RETURN QUERY SELECT 'record_entry', p_role, format('was %s (login %s, role %s)',
                v_managed.dn, v_managed.login, v_managed.role_name), NULL;
        END IF;
        v_secret := CASE
            WHEN p_force_secret THEN 'forced'
            WHEN v_managed.fingerprint IS DISTINCT FROM postern.fingerprint(p_verifier)
                THEN 'changed'
        END;
    END IF;
    IF p_verifier IS NOT NULL AND v_secret IS NOT NULL THEN
        RETURN QUERY SELECT 'set_secret', p_role, v_secret, NULL;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.role_plan(text, text, text, text, text, boolean) FROM PUBLIC;
