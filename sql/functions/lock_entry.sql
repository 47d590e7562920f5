-- Makes a hold or a revocation wait for the login of the same directory entry that is under way,
-- and the other way round: there may be no role yet to wait at. Taken before the locks of
-- lock_login, by everybody who takes both. Nothing without an entry.
CREATE OR REPLACE FUNCTION postern.lock_entry(p_directory_id text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_entry constant integer := 1886352503;
BEGIN
    IF p_directory_id IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(c_entry, hashtext(p_directory_id));
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.lock_entry(text) FROM PUBLIC;
