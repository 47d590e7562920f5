-- What managed_role remembers of a verifier: its SHA-256, in hex.
CREATE OR REPLACE FUNCTION postern.fingerprint(p_verifier text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN encode(sha256(convert_to(p_verifier, 'UTF8')), 'hex');
END
$$;

REVOKE ALL ON FUNCTION postern.fingerprint(text) FROM PUBLIC;
