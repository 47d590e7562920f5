-- Whom an operator keeps out, and how they come back.
\ir tap.sql
CREATE FUNCTION pg_temp.held(p_role text, p_id text, p_for_s bigint DEFAULT NULL) RETURNS text
LANGUAGE sql AS $$
    SELECT concat_ws(' ', h.held_role, h.held_entry,
        CASE WHEN h.held_until IS NULL THEN 'for ever'
            ELSE round(extract(epoch FROM h.held_until - clock_timestamp()))::text END)
    FROM postern.hold_login(p_role, p_id, p_for_s, 'stolen laptop', 'olga') h
$$;
CREATE FUNCTION pg_temp.holds() RETURNS text
LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', l.role, l.directory_id, l.reason, l.placed_by), ', ')
    FROM postern.list_holds() l
$$;
SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.login('tp-ann', '{tg-a}');
SELECT pg_temp.login('tp-bob', '{tg-a}');
\o

-- By entry.
SELECT pg_temp.same(pg_temp.held(NULL, 'guid:tp-ann', 3600), 'tp-ann guid:tp-ann 3600',
    'a person is held by entry, for an hour');
SELECT pg_temp.ok(NOT rolcanlogin, 'LOGIN goes with the same commit')
FROM pg_roles WHERE rolname = 'tp-ann';
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{tg-a}')$$, 'PN008',
    'who is held does not log in');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-anna', '{tg-a}', p_id => 'guid:tp-ann')$$, 'PN008',
    'not under another name either');
SELECT pg_temp.same(
    (SELECT string_agg(p.action || ' ' || left(p.note, 35), ', ') FROM postern.plan_login('tp-ann',
        'guid:tp-ann', 'ann', 'cn=tp-ann', '{tg-a}', pg_temp.verifier(1), 'create', false) p),
    'refuse PN008: olga holds this person until', 'a plan says who wants that');
SELECT pg_temp.same(pg_temp.login('tp-bob', '{tg-a}'), NULL, 'others are not touched');
SELECT pg_temp.same(postern.revoke_login(NULL, 'guid:tp-ann', 's', 'held', 0)::text, '0',
    'what is left is revoked as ever');
SELECT pg_temp.same(pg_temp.held('tp-ann', NULL), 'tp-ann guid:tp-ann for ever',
    'a second hold, by name, is for the same person');
SELECT pg_temp.same(pg_temp.holds(), 'tp-ann guid:tp-ann stolen laptop olga', 'and replaces it');
SELECT pg_temp.same(
    (SELECT string_agg(a.target, ' ') FROM postern.change_memberships('guid:tp-ann', '{tg-b}',
        'create', 's') a), NULL, 'who is held gains no group meanwhile');

RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-ann" RENAME TO "tp-ann2";
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.holds(), 'tp-ann2 guid:tp-ann stolen laptop olga',
    'a renamed person stays held');
SELECT pg_temp.ok(postern.release_login('tp-ann2', NULL, 'otto'), 'a hold is released');
SELECT pg_temp.ok(NOT postern.release_login('tp-ann2', NULL, 'otto'), 'once');
SELECT pg_temp.same(pg_temp.holds(), NULL, 'and is gone');
SELECT pg_temp.ok(NOT rolcanlogin, 'a release gives nothing back by itself')
FROM pg_roles WHERE rolname = 'tp-ann2';
SELECT pg_temp.same(pg_temp.login('tp-ann2', '{tg-a}', p_id => 'guid:tp-ann'),
    'enable_role tp-ann2, record_entry tp-ann2, grant tg-a', 'the next login does');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.same(
    (SELECT string_agg(concat_ws(' ', action, operator, provisioner), ', ' ORDER BY id)
     FROM postern.change_log
     WHERE directory_id = 'guid:tp-ann' AND action IN ('hold', 'release')),
    'hold olga postern, hold olga postern, release otto postern',
    'everything is logged with the operator''s name');
SELECT pg_temp.ok(detail LIKE 'until %: stolen laptop', 'and the reason: ' || detail)
FROM postern.change_log WHERE action = 'hold' AND directory_id = 'guid:tp-ann'
ORDER BY id LIMIT 1;
SET SESSION AUTHORIZATION postern;

-- By name, for somebody whom Postern has never seen.
SELECT pg_temp.same(pg_temp.held('tp-new', NULL), 'tp-new for ever', 'a mere name is held');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-new', '{tg-a}')$$, 'PN008',
    'whoever would get that role is refused');
SELECT pg_temp.ok(NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tp-new'), 'and gets no role');
SELECT pg_temp.ok(postern.release_login('tp-new', 'guid:tp-new', 'otto'),
    'it is released by name and entry');
SELECT pg_temp.same(pg_temp.login('tp-new', '{tg-a}'), 'create_role tp-new, grant tg-a',
    'and then the person logs in');
SELECT pg_temp.same(pg_temp.held('tp-far', 'guid:tp-far'), 'tp-far guid:tp-far for ever',
    'an entry without a role is held');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-other', '{tg-a}', p_id => 'guid:tp-far')$$,
    'PN008', 'under whatever name');
SELECT pg_temp.same(pg_temp.login('tp-far', '{tg-a}', p_id => 'guid:somebody else'),
    'create_role tp-far, grant tg-a', 'and another person of the same name is not');
\o /dev/null
SELECT postern.deprovision_login('guid:somebody else', 'drop-if-unused', 's', '', 0);
\o
SELECT pg_temp.ok(postern.release_login('tp-far', NULL, 'otto'),
    'it is released by the name that it was placed with');
SELECT pg_temp.fails($$SELECT pg_temp.held('tp-bob', 'guid:tp-ann')$$, 'PN002',
    'a name and an entry of two people hold neither');

-- Time.
SELECT pg_temp.same(pg_temp.held('tp-bob', NULL, 60), 'tp-bob guid:tp-bob 60', 'for a minute');
RESET SESSION AUTHORIZATION;
UPDATE postern.hold SET until = clock_timestamp() - interval '1 ms';
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.holds(), NULL, 'a hold that has run out is none');
SELECT pg_temp.ok(NOT postern.release_login('tp-bob', NULL, 'otto'), 'nor is it there to release');
SELECT pg_temp.same(pg_temp.login('tp-bob', '{tg-a}'), 'enable_role tp-bob',
    'the person logs in again');

-- An administrator's NOLOGIN is not ended by a release.
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-bob" NOLOGIN;
SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.held('tp-bob', NULL);
SELECT postern.release_login('tp-bob', NULL, 'otto');
\o
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-bob', '{tg-a}')$$, 'PN007',
    'what an administrator disabled stays disabled after a hold');

-- Holds that are not well formed.
SELECT pg_temp.fails($$SELECT postern.hold_login('tp-bob', NULL, NULL, 'why', '')$$, '22004',
    'a hold needs an operator');
SELECT pg_temp.fails($$SELECT postern.hold_login('tp-bob', NULL, NULL, 'why', NULL)$$, '22004',
    'a real one');
SELECT pg_temp.fails($$SELECT postern.release_login('tp-bob', NULL, NULL)$$, '22004',
    'so does a release');
SELECT pg_temp.fails(format('SELECT postern.hold_login(''tp-bob'', NULL, NULL, %L, %L)', h.reason,
    h.operator), '22001', 'who is brief')
FROM (VALUES (repeat('x', 1001), 'olga'), ('', repeat('x', 201))) AS h (reason, operator);
-- 8000 bytes and more would be an error.
SELECT pg_temp.ok(held_until IS NULL, format('an entry of %s characters fits a notification', n))
FROM unnest(ARRAY[500, 501, 2000]) AS n, LATERAL postern.hold_login(repeat(E'\x01', 63),
    repeat(E'\x01', n), NULL, repeat(E'\x01', 1000), repeat(E'\x01', 200));
SELECT pg_temp.fails($$SELECT pg_temp.held(NULL, NULL)$$, '22004', 'a hold needs a person');
SELECT pg_temp.fails($$SELECT pg_temp.held('', NULL)$$, '22004', 'who is somebody');
SELECT pg_temp.fails(format('SELECT pg_temp.held(%L, NULL, %s)', 'tp-bob', s.for_s), '22023',
    'a hold does not last ' || s.for_s || ' s')
FROM unnest(ARRAY[0, -1, 9223372036854775807]) AS s (for_s);

RESET SESSION AUTHORIZATION;
SELECT pg_temp.fails($$SELECT postern.adopt_role('th-x', 'guid:x')
    FROM postern.hold_login(NULL, 'guid:x', NULL, '', 'olga')$$, '42704',
    'nobody is nobody, held or not');
CREATE ROLE "th-held";
SELECT pg_temp.fails($$SELECT postern.adopt_role('th-held', 'guid:x')
    FROM postern.hold_login(NULL, 'guid:x', NULL, '', 'olga')$$, 'PN008',
    'a role is not handed over to who is held');
SELECT pg_temp.done();
ROLLBACK;
