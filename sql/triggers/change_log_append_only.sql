-- Keeps change_log append only, for its owner as well.
DROP TRIGGER IF EXISTS change_log_append_only ON postern.change_log;
CREATE TRIGGER change_log_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON postern.change_log
    FOR EACH STATEMENT EXECUTE FUNCTION postern.refuse_change();
