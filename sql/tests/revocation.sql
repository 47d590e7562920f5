-- What is taken away, and what an administrator hands over.
\ir tap.sql
SET SESSION AUTHORIZATION postern;
\o /dev/null
SELECT pg_temp.login('tp-ann', '{tg-a,tg-b}');
SELECT pg_temp.login('tp-bob', '{tg-a}');
\o
RESET SESSION AUTHORIZATION;
CREATE ROLE "th-own";
GRANT "th-own" TO "tp-ann";
CREATE TABLE pg_temp.hers (n integer);
ALTER TABLE pg_temp.hers OWNER TO "tp-ann";
SET SESSION AUTHORIZATION postern;

SELECT pg_temp.same(postern.disable_login(NULL, 'guid:nobody', 's', 'why'), NULL,
    'nobody is disabled when the entry is unknown');
SELECT pg_temp.same(postern.disable_login('postgres', NULL, 's', 'why'), NULL,
    'a role that is not managed is not disabled');
SELECT pg_temp.same(postern.disable_login('tp-bob', 'guid:tp-ann', 's', 'why'), NULL,
    'nor is one whose entry is another''s');
SELECT pg_temp.same(postern.disable_login(NULL, NULL, 's', 'why'), NULL, 'nor just anybody');
SELECT pg_temp.same(postern.disable_login(NULL, 'guid:tp-ann', 's', 'left the group'), 'tp-ann',
    'a managed role is disabled by its entry');
SELECT pg_temp.ok(NOT rolcanlogin, 'it cannot log in')
FROM pg_roles WHERE rolname = 'tp-ann';
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-a, tg-b, th-own', 'and is stripped later');
SAVEPOINT before;
SET TRANSACTION READ ONLY;
SELECT pg_temp.same(postern.disable_login('tp-ann', NULL, 's', 'again'), 'tp-ann',
    'disabling twice writes nothing');
ROLLBACK TO SAVEPOINT before;

SELECT pg_temp.same(postern.revoke_login('tp-ann', 'guid:tp-ann', 's', 'left', 0)::text, '0',
    'a revoked role has no backend left');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'th-own',
    'the memberships that Postern granted are gone, the administrator''s is not');
SELECT pg_temp.ok(EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
    WHERE c.relname = 'hers' AND r.rolname = 'tp-ann'), 'what the role owns is still its own');
SELECT pg_temp.same(postern.revoke_login(NULL, 'guid:nobody', 's', 'left', 0)::text, NULL,
    'nobody is revoked when the entry is unknown');
RESET SESSION AUTHORIZATION;
SELECT pg_temp.same(
    (SELECT string_agg(concat_ws(' ', action, detail), ', ' ORDER BY id)
     FROM postern.change_log WHERE role_name = 'tp-ann' AND session_id = 's'),
    'disable_role left the group, revoke tg-a, revoke tg-b', 'everything is logged');
SET SESSION AUTHORIZATION postern;

SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b}'), 'enable_role tp-ann, grant tg-b',
    'who is back in a group can log in again');
SELECT pg_temp.ok(rolcanlogin, 'really') FROM pg_roles WHERE rolname = 'tp-ann';
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b}'), NULL, 'and that is remembered');

-- An administrator's NOLOGIN is not Postern's to undo, even after a revocation.
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-bob" NOLOGIN;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(postern.revoke_login('tp-bob', NULL, 's', 'left', 0)::text, '0',
    'a role that an administrator disabled is stripped');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-bob', '{tg-a}')$$, 'PN007',
    'and stays disabled');

-- A group that became a superuser cannot be revoked, and does not save the other memberships.
\o /dev/null
SELECT pg_temp.login('tp-cyd', '{tg-a,tg-s,tg-z}');
\o
RESET SESSION AUTHORIZATION;
ALTER ROLE "tg-s" SUPERUSER;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(postern.revoke_login('tp-cyd', NULL, 's', 'left', 0)::text, '0',
    'a revocation goes on after a membership that is out of reach');
SELECT pg_temp.same(pg_temp.member_of('tp-cyd'), 'tg-s', 'to the end');

-- Adoption.
RESET SESSION AUTHORIZATION;
CREATE ROLE "th-readers";
CREATE ROLE "th-dan" LOGIN;
CREATE ROLE "th-boss" SUPERUSER;
SELECT pg_temp.fails($$SELECT postern.adopt_group('th-boss')$$, 'PN003',
    'a superuser is not adopted as a group, not even by a superuser');
SELECT pg_temp.fails($$SELECT postern.adopt_group('tp-ann')$$, 'PN003', 'nor is a person');
SELECT pg_temp.fails($$SELECT postern.adopt_group('th-nobody')$$, '42704', 'nor is nobody');
SELECT pg_temp.fails($$SELECT postern.adopt_role('th-boss', 'guid:boss')$$, 'PN003',
    'a superuser is not adopted as a person');
SELECT pg_temp.fails($$SELECT postern.adopt_role('tg-a', 'guid:a')$$, 'PN003',
    'nor is a group');
SELECT pg_temp.fails($$SELECT postern.adopt_role('tp-ann', 'guid:other')$$, 'PN002',
    'nor somebody else''s role');
SELECT pg_temp.fails($$SELECT postern.adopt_role('th-dan', 'guid:tp-ann')$$, 'PN006',
    'nor a second role for one person');
\o /dev/null
SELECT postern.adopt_group('th-readers');
SELECT postern.adopt_group('th-readers');
SELECT postern.adopt_role('th-dan', 'guid:th-dan');
\o
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('th-dan', '{th-readers}'),
    'record_entry th-dan, set_secret th-dan, grant th-readers',
    'adopted roles are Postern''s from then on');
SELECT pg_temp.same(pg_temp.login('th-dan', '{tg-a}'), 'grant tg-a, revoke th-readers',
    'in both directions');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.done();
ROLLBACK;
