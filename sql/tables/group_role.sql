-- The roles that stand for groups. Only a role whose oid is here is ever granted to anybody.
CREATE TABLE IF NOT EXISTS postern.group_role (
    role_oid   regrole     PRIMARY KEY,
    role_name  text        NOT NULL,
    origin     text        NOT NULL CHECK (origin IN ('created', 'adopted')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text        NOT NULL DEFAULT session_user
);

-- Version 3 had bare numbers.
ALTER TABLE postern.group_role ALTER COLUMN role_oid TYPE regrole;

REVOKE ALL ON TABLE postern.group_role FROM PUBLIC;
