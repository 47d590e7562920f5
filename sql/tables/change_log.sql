-- Every change that Postern made to a role: what, to whom, when, for which session, by which
-- provisioner, and from which groups. Rows are only ever added.
CREATE TABLE IF NOT EXISTS postern.change_log (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    action       text        NOT NULL,
    role_name    text        NOT NULL,
    directory_id text        NOT NULL,
    session_id   text        NOT NULL,
    provisioner  text        NOT NULL DEFAULT session_user,
    groups       text[]      NOT NULL,
    detail       text        NOT NULL
);

REVOKE ALL ON TABLE postern.change_log FROM PUBLIC;
