-- Every installation and upgrade of this schema, the newest row counting.
-- `digest` is the SHA-256 of the files that were installed: an equal one means nothing to do.
CREATE TABLE IF NOT EXISTS postern.schema_version (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version      integer     NOT NULL,
    digest       text        NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    installed_by text        NOT NULL DEFAULT session_user
);

REVOKE ALL ON TABLE postern.schema_version FROM PUBLIC;
