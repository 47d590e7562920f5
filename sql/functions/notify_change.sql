-- Tells whoever listens on the channel `postern`, with the commit, that something was done to a
-- person: {"what", "entry", "role", "by"}, `by` being the operator or the proxy.
-- It is a hint and no evidence: everybody who is connected to the database may send one as well.
-- The texts are cut so that even wholly escaped they stay under the 8000 bytes of a payload; an
-- entry is left out rather than cut, because it would be another one.
CREATE OR REPLACE FUNCTION postern.notify_change(
    p_what text, p_directory_id text, p_role text, p_operator text
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_entry_max constant integer := 500;
    c_by_max    constant integer := 200;
BEGIN
    -- A full queue would fail the transaction at its commit, and somebody who listens and never
    -- reads can fill it. Taking access away matters more than saying so.
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('postern', jsonb_build_object(
            'what', p_what,
            'entry', CASE WHEN length(p_directory_id) <= c_entry_max THEN p_directory_id END,
            'role', p_role,
            'by', left(COALESCE(p_operator, NULLIF(current_setting('postern.instance', true), ''),
                session_user), c_by_max))::text);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION postern.notify_change(text, text, text, text) FROM PUBLIC;
