-- Refuses a wish that is not well formed, before anything is looked up for it.
CREATE OR REPLACE FUNCTION postern.check_wish(
    p_role text, p_directory_id text, p_login text, p_dn text, p_groups text[],
    p_verifier text, p_missing text, p_session text
)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_role IS NULL OR COALESCE(p_directory_id, '') = '' OR p_login IS NULL OR p_dn IS NULL
        OR p_groups IS NULL OR p_session IS NULL OR array_position(p_groups, NULL) IS NOT NULL
    THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'role, directory_id, login, dn, groups and session are needed';
    END IF;
    IF p_missing IS NULL OR p_missing NOT IN ('create', 'skip', 'refuse') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'missing is one of create, skip, refuse';
    END IF;
    -- A clear password would be hashed by the server, and could end up in its log.
    IF p_verifier !~ ('^SCRAM-SHA-256[$][1-9][0-9]{0,9}:[A-Za-z0-9+/]+={0,2}'
        '[$][A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$')
    THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the verifier is not a SCRAM-SHA-256 verifier';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION
    postern.check_wish(text, text, text, text, text[], text, text, text) FROM PUBLIC;
