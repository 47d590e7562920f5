-- The people whom an operator keeps out, whatever the directory says. By directory entry, or by
-- the name of a role that nobody has yet: the directory may be away when it has to be quick.
CREATE TABLE IF NOT EXISTS postern.hold (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    directory_id text        UNIQUE CHECK (directory_id <> ''),
    -- Of a hold by entry, the name that the role had, for people to read.
    role_name    text        CHECK (role_name <> ''),
    -- Null: until somebody releases it. One that has run out counts no more; the next hold or
    -- release of the same person removes it.
    until        timestamptz,
    reason       text        NOT NULL,
    placed_by    text        NOT NULL,
    placed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (directory_id IS NOT NULL OR role_name IS NOT NULL)
);

CREATE UNIQUE INDEX IF NOT EXISTS hold_role_name
    ON postern.hold (role_name) WHERE directory_id IS NULL;

REVOKE ALL ON TABLE postern.hold FROM PUBLIC;
