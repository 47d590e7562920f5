-- The trigger of change_log: a row that was written stays as it is.
CREATE OR REPLACE FUNCTION postern.refuse_change()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'insufficient_privilege',
        MESSAGE = format('%I.%I only grows: %s is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP);
END
$$;

REVOKE ALL ON FUNCTION postern.refuse_change() FROM PUBLIC;
