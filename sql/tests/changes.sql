-- Memberships that change between two logins, what is known of all roles, and what becomes of the
-- roles of people who are gone.
\ir tap.sql
CREATE FUNCTION pg_temp.changed(p_id text, p_groups text[], p_missing text DEFAULT 'create')
RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(c.action || ' ' || c.target, ', ' ORDER BY c.step)
    FROM postern.change_memberships(p_id, p_groups, p_missing, 'feed') c
$$;
CREATE FUNCTION pg_temp.known(p_id text DEFAULT NULL, p_after text DEFAULT '') RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', l.role, l.directory_id,
        CASE WHEN l.can_login THEN 'in' ELSE 'out' END, CASE WHEN l.held THEN 'held' END,
        l.groups), ', ')
    FROM postern.managed_logins(p_id, p_after, 2) l
$$;
CREATE FUNCTION pg_temp.gone(p_role text, p_mode text DEFAULT 'drop-if-unused') RETURNS text
LANGUAGE sql AS $$
    SELECT concat_ws(' ', d.role, CASE WHEN d.dropped THEN 'dropped' END, NULLIF(d.note, ''),
        d.backends_left)
    FROM postern.deprovision_login('guid:' || p_role, p_mode, 'feed', 'deleted', 0) d
$$;
SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.login('tp-ann', '{tg-a,tg-b}', 7);
SELECT pg_temp.login('tp-bob', '{tg-a}');
SELECT pg_temp.login('tp-cyd', '{tg-a}');
\o

SELECT pg_temp.same(pg_temp.changed('guid:nobody', '{tg-a}'), NULL,
    'whoever has no role is not given one');
SELECT pg_temp.same(pg_temp.changed('guid:tp-ann', '{tg-c,tg-b}'),
    'create_group tg-c, revoke tg-a, grant tg-c', 'memberships change without a login');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-b, tg-c', 'to the letter');
SAVEPOINT before;
SET TRANSACTION READ ONLY;
SELECT pg_temp.same(pg_temp.changed('guid:tp-ann', '{tg-b,tg-c}'), NULL,
    'the same ones again write nothing');
SELECT pg_temp.same(pg_temp.changed('guid:tp-ann', '{tg-b,tg-c,postgres}'),
    'skip_group postgres', 'nor does a group that is left out');
ROLLBACK TO SAVEPOINT before;
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b,tg-c}', 7), NULL,
    'a login afterwards finds everything as it should be, the secret too');
SELECT pg_temp.fails($$SELECT pg_temp.changed('guid:tp-ann', '{}')$$, 'PN005',
    'no group at all is a revocation, and not a change');
SELECT pg_temp.fails($$SELECT pg_temp.changed('guid:tp-ann', '{tg-none}', 'refuse')$$, 'PN004',
    'the policy for groups without a role holds');
SELECT pg_temp.fails($$SELECT pg_temp.changed('guid:tp-ann', NULL)$$, '22004', 'groups are needed');
SELECT pg_temp.fails($$SELECT pg_temp.changed('', '{tg-a}')$$, '22004', 'and an entry');
RESET SESSION AUTHORIZATION;
SELECT pg_temp.same(
    (SELECT string_agg(concat_ws(' ', action, detail, session_id), ', ' ORDER BY id)
     FROM postern.change_log WHERE role_name = 'tp-ann' AND session_id = 'feed'),
    'create_group tg-c: NOLOGIN, without rights feed, revoke tg-a feed, grant tg-c feed',
    'everything is logged');
CREATE ROLE "th-super" SUPERUSER;
GRANT "th-super" TO "tp-ann";
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.fails($$SELECT pg_temp.changed('guid:tp-ann', '{tg-b}')$$, 'PN003',
    'a person who became powerful is not altered');
RESET SESSION AUTHORIZATION;
REVOKE "th-super" FROM "tp-ann";
SET SESSION AUTHORIZATION postern;

-- What is known.
\o /dev/null
SELECT postern.disable_login('tp-bob', NULL, 's', 'left');
SELECT postern.hold_login('tp-cyd', NULL, NULL, '', 'olga');
RESET SESSION AUTHORIZATION;
CREATE ROLE "th-own";
GRANT "th-own" TO "tp-ann";
SET SESSION AUTHORIZATION postern;
\o
SELECT pg_temp.same(pg_temp.known(),
    'tp-ann guid:tp-ann in {tg-b,tg-c}, tp-bob guid:tp-bob out {tg-a}',
    'a page of roles says who may log in, and what Postern granted');
SELECT pg_temp.same(pg_temp.known(p_after => 'guid:tp-bob'),
    'tp-cyd guid:tp-cyd out held {tg-a}', 'the next page has the others, and who is held');
SELECT pg_temp.same(pg_temp.known(p_after => 'guid:tp-cyd'), NULL, 'and then there is none');
SELECT pg_temp.same(pg_temp.known('guid:tp-bob'), 'tp-bob guid:tp-bob out {tg-a}',
    'one entry is asked for alone');
SELECT pg_temp.same(pg_temp.known('guid:nobody'), NULL, 'if it has a role');
SELECT pg_temp.same(pg_temp.changed('guid:tp-bob', '{tg-b}'), NULL,
    'who was revoked waits for the next login');

-- Who is gone.
SELECT pg_temp.same(pg_temp.gone('nobody'), NULL, 'nobody is not dropped');
SELECT pg_temp.fails($$SELECT pg_temp.gone('tp-ann', 'drop')$$, '22023', 'there are two modes');
SELECT pg_temp.same(pg_temp.gone('tp-bob', 'keep'), 'tp-bob kept, as it is configured 0',
    'a role is kept');
SELECT pg_temp.same(pg_temp.member_of('tp-bob'), NULL, 'and stripped');
SELECT pg_temp.same(pg_temp.gone('tp-bob'), 'tp-bob dropped 0', 'or dropped');
SELECT pg_temp.ok(NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tp-bob')
    AND pg_temp.known('guid:tp-bob') IS NULL, 'wholly');
SELECT pg_temp.same(pg_temp.gone('tp-bob'), NULL, 'once');
SELECT pg_temp.same(pg_temp.gone('tp-ann'),
    'tp-ann kept: an administrator granted memberships: "th-own" 0',
    'not while it is in a group that an administrator gave');
SELECT pg_temp.same(pg_temp.gone('tp-cyd'), 'tp-cyd dropped 0', 'a held person''s role is dropped');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-cyd', '{tg-a}')$$, 'PN008',
    'and the hold stays with the entry');
\o /dev/null
SELECT postern.release_login(NULL, 'guid:tp-cyd', 'otto');
SELECT pg_temp.login('tp-bob', '{tg-a}');
SELECT pg_temp.login('tp-dan', '{tg-a}');
SELECT pg_temp.login('tp-eve', '{tg-a}');
SELECT pg_temp.login('tp-fay', '{tg-a}');
RESET SESSION AUTHORIZATION;
REVOKE "th-own" FROM "tp-ann";
CREATE TABLE public.hers (n integer);
ALTER TABLE public.hers OWNER TO "tp-ann";
GRANT SELECT ON public.hers TO "tp-bob";
ALTER DEFAULT PRIVILEGES FOR ROLE "tp-ann" GRANT SELECT ON TABLES TO "tp-dan";
ALTER TABLE public.hers ENABLE ROW LEVEL SECURITY;
CREATE POLICY hers ON public.hers TO "tp-eve";
GRANT CREATE ON DATABASE postgres TO "tp-fay";
\o
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.gone('tp-ann'),
    'tp-ann kept: it has objects of its own in database postgres 0',
    'an owner is kept');
SELECT pg_temp.same(pg_temp.gone(n.name),
    n.name || ' kept: it has privileges in ' || n.place || ' 0', n.what)
FROM (VALUES
    ('tp-bob', 'database postgres', 'so is who may read a table'),
    ('tp-dan', 'database postgres', 'or will be allowed to'),
    ('tp-eve', 'database postgres', 'or is named by a policy'),
    ('tp-fay', 'the whole cluster', 'or has a privilege on a database')
) AS n (name, place, what);
RESET SESSION AUTHORIZATION;
CREATE ROLE "th-gil" LOGIN;
\o /dev/null
SELECT postern.adopt_role('th-gil', 'guid:th-gil');
\o
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.gone('th-gil'), 'th-gil kept: it was there before Postern 0',
    'a role that an administrator made is never dropped');
\o /dev/null
SELECT pg_temp.login('tp-hal', '{tg-a}');
RESET SESSION AUTHORIZATION;
GRANT "tp-hal" TO "th-gil";
\o
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.gone('tp-hal'),
    'tp-hal kept: an administrator granted memberships: "th-gil" 0',
    'nor one that others are members of');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.same(
    (SELECT string_agg(concat_ws(' ', role_name, detail), ', ' ORDER BY id)
     FROM postern.change_log WHERE action = 'drop_role'), 'tp-bob deleted, tp-cyd deleted',
    'what was dropped is logged');
SELECT pg_temp.done();
ROLLBACK;
