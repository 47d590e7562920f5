-- Whom a login refuses, and what it never grants or alters.
\ir tap.sql
CREATE ROLE "th-plain" LOGIN;
CREATE ROLE "th-super" SUPERUSER;
CREATE ROLE "th-create" CREATEROLE;
CREATE ROLE "th-replica" REPLICATION;
CREATE ROLE "th-bypass" BYPASSRLS;
CREATE ROLE "th-indirect" IN ROLE "th-create";
CREATE ROLE "th-deep" IN ROLE "th-indirect";
CREATE ROLE "th-program" IN ROLE pg_execute_server_program;
CREATE ROLE "th-agent" IN ROLE postern;
CREATE ROLE rds_superuser;
SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.login('tp-ann', '{tg-a}');
\o

SELECT pg_temp.fails($$SELECT pg_temp.login('th-plain', '{tg-a}')$$, 'PN001',
    'a role that exists and is not managed is refused');
SELECT pg_temp.fails($$SELECT pg_temp.login('tg-a', '{tg-a}')$$, 'PN001',
    'the role of a group is not a person''s');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{tg-a}', p_id => 'guid:new')$$, 'PN002',
    'a new person with an old name does not inherit the role');
SELECT pg_temp.fails(format('SELECT pg_temp.login(%L, %L)', name, '{tg-a}'), 'PN003',
    format('%s is never a person', name))
FROM unnest(ARRAY['postgres', 'th-super', 'th-create', 'th-replica', 'th-bypass', 'th-indirect',
    'th-deep', 'th-program', 'th-agent', 'postern', 'postern_owner', 'postern_people',
    'pg_monitor', 'pg_new',
    'public', 'none', 'rds_superuser', repeat('x', 64), repeat('é', 32)]) AS t (name);
SELECT pg_temp.fails($$SELECT pg_temp.login('', '{tg-a}')$$, 'PN003', 'nor is nobody');
SELECT pg_temp.fails(format('SELECT pg_temp.login(%L, ARRAY[%L])', 'tp-ann', repeat('é', 32)),
    'PN003', 'a group of 64 bytes is refused and not truncated');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{tg-a,tg-none}', p_missing => 'refuse')$$,
    'PN004', 'with the policy refuse a group without a role refuses the login');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{}')$$, 'PN005', 'no group, no login');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{tg-none}', p_missing => 'skip')$$,
    'PN005', 'no group left, no login');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-anna', '{tg-a}', p_id => 'guid:tp-ann')$$,
    'PN006', 'a renamed person does not get a second role');
SELECT pg_temp.same(
    (SELECT p.note FROM postern.plan_login('tp-anna', 'guid:tp-ann', 'x', 'x', '{tg-a}', NULL,
        'create', false) p WHERE p.action = 'refuse'),
    'PN006: directory entry guid:tp-ann already has role "tp-ann" and is now called "tp-anna"; '
    'to keep what the role owns, an administrator runs: ALTER ROLE "tp-ann" RENAME TO "tp-anna"',
    'a plan shows the refusal and what to do');

-- Groups that are called like somebody powerful.
SELECT pg_temp.same(
    pg_temp.login('tp-ann', ARRAY['tg-a', 'postgres', 'th-super', 'th-create', 'th-replica',
        'th-bypass', 'th-indirect', 'th-deep', 'th-program', 'th-agent', 'postern',
        'postern_owner', 'pg_read_all_data', 'rds_superuser', 'th-plain', 'tp-ann', 'public']),
    'skip_group pg_read_all_data, skip_group postern, skip_group postern_owner, '
    'skip_group postgres, skip_group public, skip_group rds_superuser, skip_group th-agent, '
    'skip_group th-bypass, skip_group th-create, skip_group th-deep, skip_group th-indirect, '
    'skip_group th-plain, skip_group th-program, skip_group th-replica, skip_group th-super, '
    'skip_group tp-ann',
    'powerful roles and roles that are not managed are skipped, whatever a group is called');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-a', 'and nothing of them is granted');
SELECT pg_temp.same(
    (SELECT string_agg(p.note, '; ' ORDER BY p.step) FROM postern.plan_login('tp-ann',
        'guid:tp-ann', 'tp-ann', 'cn=tp-ann', '{tg-a,th-plain,th-deep}', NULL, 'create', false) p),
    'it is a member of "th-create", which is a role with CREATEROLE; not managed by Postern; '
    'to hand it over, an administrator runs: SELECT postern.adopt_group(''th-plain'')',
    'a plan says why');
\o /dev/null
SELECT pg_temp.login('tp-bob', '{tg-b}');
\o
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-a,tp-bob}'), 'skip_group tp-bob',
    'another person''s role is not a group');

-- A group that became powerful after it was granted.
RESET SESSION AUTHORIZATION;
ALTER ROLE "tg-a" CREATEROLE;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-a,tg-b}'),
    'revoke tg-a, grant tg-b, skip_group tg-a', 'a group that became powerful is taken away');
RESET SESSION AUTHORIZATION;
ALTER ROLE "tg-b" SUPERUSER;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{tg-b,tg-c}')$$, 'PN003',
    'a group that became a superuser refuses the login, because it is out of reach');

-- A person who became powerful, and one whom an administrator disabled.
\o /dev/null
SELECT pg_temp.login('tp-cyd', '{tg-c}');
\o
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-cyd" NOLOGIN;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-cyd', '{tg-c}')$$, 'PN007',
    'a person whom an administrator disabled stays disabled');
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-cyd" LOGIN CREATEROLE;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-cyd', '{tg-c}')$$, 'PN003',
    'a person who became powerful is not altered');
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-cyd" NOCREATEROLE;
GRANT "th-super" TO "tp-cyd";
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-cyd', '{tg-c}')$$, 'PN003',
    'nor is one who can become a superuser');

-- Circles.
RESET SESSION AUTHORIZATION;
REVOKE "th-super" FROM "tp-cyd";
CREATE ROLE "tg-circle" IN ROLE "tp-cyd";
\o /dev/null
SELECT postern.adopt_group('tg-circle');
\o
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('tp-cyd', '{tg-c,tg-circle}'), 'skip_group tg-circle',
    'a group that is a member of the person is left out');

-- Wishes that are not well formed.
SELECT pg_temp.fails($$SELECT postern.apply_login('tp-x', 'guid:x', 'x', 'x', '{tg-a}',
    'clear text', 'create', false, 's')$$, '22023', 'a clear password is refused');
SELECT pg_temp.fails($$SELECT postern.apply_login('tp-x', 'guid:x', 'x', 'x', '{tg-a}',
    NULL, 'create', false, 's')$$, '22004', 'a login without a verifier is refused');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-x', ARRAY['tg-a', NULL])$$, '22004',
    'a group without a name is refused');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-x', '{tg-a}', p_missing => 'maybe')$$, '22023',
    'an unknown policy is refused');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-x', '{tg-a}', p_id => '')$$, '22004',
    'a person without an identifier is refused');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.done();
ROLLBACK;
