-- The roles of people. A role is Postern's if its oid is here; the name alone says nothing,
-- because a role that was dropped and made anew by hand is somebody else's.
-- A regrole is an oid that a dump writes as a name: in the cluster that the dump is restored to,
-- roles have other numbers.
CREATE TABLE IF NOT EXISTS postern.managed_role (
    role_oid     regrole     PRIMARY KEY,
    -- As of the last sync; pg_roles has the name that holds.
    role_name    text        NOT NULL,
    -- The directory's own identifier, which survives a rename of the person.
    directory_id text        NOT NULL UNIQUE CHECK (directory_id <> ''),
    dn           text        NOT NULL,
    login        text        NOT NULL,
    origin       text        NOT NULL CHECK (origin IN ('created', 'adopted')),
    -- SHA-256 of the SCRAM verifier, in hex, so that an unchanged secret is not written again.
    fingerprint  text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The last sync that changed anything.
    synced_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Set while Postern itself has taken LOGIN away. A role without LOGIN and without this date
    -- was disabled by an administrator, and only an administrator enables it again.
    disabled_at  timestamptz,
    disabled_why text
);

-- Version 3 had bare numbers.
ALTER TABLE postern.managed_role ALTER COLUMN role_oid TYPE regrole;

REVOKE ALL ON TABLE postern.managed_role FROM PUBLIC;
