-- Terminates every backend that logged in as this role and waits up to p_wait_ms milliseconds
-- for them to go. Returns how many were left at the last look.
CREATE OR REPLACE FUNCTION postern.end_backends(p_role oid, p_wait_ms integer)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + p_wait_ms * interval '1 millisecond';
    v_left  integer;
    v_pid   integer;
BEGIN
    LOOP
        -- Within a transaction the view shows the same picture until it is cleared.
        PERFORM pg_stat_clear_snapshot();
        v_left := 0;
        FOR v_pid IN
            SELECT a.pid FROM pg_stat_activity a
            WHERE a.usesysid = p_role AND a.pid <> pg_backend_pid()
        LOOP
            v_left := v_left + 1;
            PERFORM pg_terminate_backend(v_pid);
        END LOOP;
        EXIT WHEN v_left = 0 OR clock_timestamp() >= v_until;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN v_left;
END
$$;

REVOKE ALL ON FUNCTION postern.end_backends(oid, integer) FROM PUBLIC;
