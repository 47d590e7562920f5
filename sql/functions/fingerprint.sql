-- What managed_role remembers of a verifier: its SHA-256, in hex.
CREATE OR REPLACE FUNCTION postern.fingerprint(p_verifier text)
RETURNS text
LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(sha256(convert_to(p_verifier, 'UTF8')), 'hex')
$$;

REVOKE ALL ON FUNCTION postern.fingerprint(text) FROM PUBLIC;
