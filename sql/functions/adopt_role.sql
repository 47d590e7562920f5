-- Hands an existing role over to Postern, to be the role of this directory entry. For an
-- administrator: runs with the caller's own rights, as adopt_group does.
CREATE OR REPLACE FUNCTION postern.adopt_role(p_role text, p_directory_id text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.record_role(p_role, p_directory_id);
    IF current_setting('server_version_num')::integer >= 160000 THEN
        EXECUTE format(
            'GRANT %I TO postern_people WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', p_role);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.adopt_role(text, text) FROM PUBLIC;
