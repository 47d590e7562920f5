-- Makes logins wait for each other where they would collide: first the person's role, then the
-- groups' roles that have to be created, in the order of their keys. Everybody takes one lock
-- of the first class and then those of the second in one order, so that no circle can form.
-- The locks end with the transaction. Two names with the same hash share one, which only waits.
CREATE OR REPLACE FUNCTION postern.lock_login(p_role text, p_groups text[], p_missing text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_person constant integer := 1886352501;
    c_group  constant integer := 1886352502;
    v_key    integer;
BEGIN
    PERFORM pg_advisory_xact_lock(c_person, hashtext(p_role));
    IF p_missing <> 'create' THEN
        RETURN;
    END IF;
    FOR v_key IN
        SELECT DISTINCT hashtext(g.name)
        FROM unnest(p_groups) AS g (name)
        WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = g.name)
        ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(c_group, v_key);
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION postern.lock_login(text, text[], text) FROM PUBLIC;
