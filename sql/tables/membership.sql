-- The memberships that Postern granted. Only these are ever revoked: what an administrator
-- granted by hand stays.
CREATE TABLE IF NOT EXISTS postern.membership (
    role_oid   oid         NOT NULL REFERENCES postern.managed_role ON DELETE CASCADE,
    group_oid  oid         NOT NULL REFERENCES postern.group_role ON DELETE CASCADE,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    session_id text        NOT NULL,
    PRIMARY KEY (role_oid, group_oid)
);

REVOKE ALL ON TABLE postern.membership FROM PUBLIC;
