-- Hands an existing role over to Postern, to stand for the group of the same name. For an
-- administrator: runs with the caller's own rights, and on PostgreSQL 16 and later gives
-- postern_owner the ADMIN OPTION without which it could not grant the role.
CREATE OR REPLACE FUNCTION postern.adopt_group(p_group text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM postern.record_group(p_group);
    IF current_setting('server_version_num')::integer >= 160000 THEN
        EXECUTE format(
            'GRANT %I TO postern_owner WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', p_group);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.adopt_group(text) FROM PUBLIC;
