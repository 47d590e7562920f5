-- The memberships that Postern granted. Only these are ever revoked: what an administrator
-- granted by hand stays.
CREATE TABLE IF NOT EXISTS postern.membership (
    role_oid   regrole     NOT NULL REFERENCES postern.managed_role ON DELETE CASCADE,
    group_oid  regrole     NOT NULL REFERENCES postern.group_role ON DELETE CASCADE,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    session_id text        NOT NULL,
    PRIMARY KEY (role_oid, group_oid)
);

-- Version 3 had bare numbers.
ALTER TABLE postern.membership
    ALTER COLUMN role_oid TYPE regrole, ALTER COLUMN group_oid TYPE regrole;

REVOKE ALL ON TABLE postern.membership FROM PUBLIC;
