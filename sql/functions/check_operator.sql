-- Refuses the word of an operator who does not say who it is, or who says too much.
CREATE OR REPLACE FUNCTION postern.check_operator(p_by text, p_reason text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_by_max     constant integer := 200;
    c_reason_max constant integer := 1000;
BEGIN
    IF COALESCE(p_by, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'the name of the operator is needed';
    END IF;
    IF length(p_by) > c_by_max OR length(p_reason) > c_reason_max THEN
        RAISE EXCEPTION USING ERRCODE = 'string_data_right_truncation', MESSAGE = format(
            'an operator has %s characters at most, and a reason %s', c_by_max, c_reason_max);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.check_operator(text, text) FROM PUBLIC;
