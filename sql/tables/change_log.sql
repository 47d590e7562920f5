-- Every change that Postern made to a role: what, to whom, when, for which session, by which
-- provisioner, on which operator's word if on any, and from which groups. Rows are only ever
-- added.
CREATE TABLE IF NOT EXISTS postern.change_log (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    action       text        NOT NULL,
    role_name    text        NOT NULL,
    directory_id text        NOT NULL,
    session_id   text        NOT NULL,
    provisioner  text        NOT NULL DEFAULT session_user,
    groups       text[]      NOT NULL,
    detail       text        NOT NULL,
    operator     text        NOT NULL DEFAULT ''
);

-- Version 1 had no operators.
ALTER TABLE postern.change_log ADD COLUMN IF NOT EXISTS operator text NOT NULL DEFAULT '';

REVOKE ALL ON TABLE postern.change_log FROM PUBLIC;
