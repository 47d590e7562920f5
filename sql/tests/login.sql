-- What a login changes, and what it leaves alone.
\ir tap.sql
SET SESSION AUTHORIZATION postern;

SELECT pg_temp.same(
    (SELECT string_agg(p.action || ' ' || p.target, ', ' ORDER BY p.step)
     FROM postern.plan_login('tp-ann', 'guid:tp-ann', 'ann', 'cn=tp-ann', '{tg-b,tg-a}',
        pg_temp.verifier(1), 'create', false) p),
    'create_role tp-ann, create_group tg-a, create_group tg-b, '
    'grant tg-a, grant tg-b',
    'the plan of a first login has the role, its secret, the groups and the memberships');
SELECT pg_temp.ok(
    NOT EXISTS (SELECT FROM pg_roles WHERE rolname IN ('tp-ann', 'tg-a', 'tg-b')),
    'a plan has no effect');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b,tg-a}'),
    'create_role tp-ann, create_group tg-a, create_group tg-b, '
    'grant tg-a, grant tg-b',
    'a login executes exactly its plan');
SELECT pg_temp.same(
    (SELECT concat_ws(' ', rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole,
        rolreplication, rolbypassrls) FROM pg_roles WHERE rolname = 'tp-ann'),
    't t f f f f f', 'a person can log in, inherits, and can do nothing else');
SELECT pg_temp.same(
    (SELECT concat_ws(' ', rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication,
        rolbypassrls) FROM pg_roles WHERE rolname = 'tg-a'),
    'f f f f f f', 'a group''s role can do nothing');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-a, tg-b', 'the memberships are there');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.same((SELECT rolpassword FROM pg_authid WHERE rolname = 'tp-ann'),
    pg_temp.verifier(1), 'the verifier is stored as it was sent');
SELECT pg_temp.same(
    (SELECT string_agg(DISTINCT concat_ws(' ', role_name, directory_id, session_id, provisioner,
        groups), '; ') FROM postern.change_log WHERE role_name = 'tp-ann'),
    'tp-ann guid:tp-ann session postern {tg-b,tg-a}',
    'every change is logged with the person, the session, the provisioner and the groups');
SELECT pg_temp.same(
    (SELECT string_agg(action, ' ' ORDER BY id) FROM postern.change_log
     WHERE role_name = 'tp-ann'),
    'create_role create_group create_group grant grant', 'one row a change');
SELECT pg_temp.ok(
    NOT EXISTS (SELECT FROM postern.change_log WHERE change_log::text LIKE '%SCRAM%')
    AND NOT EXISTS (SELECT FROM postern.managed_role WHERE managed_role::text LIKE '%SCRAM%'),
    'no table of Postern has a verifier');

-- A transaction may become read-only at any time, and then every write fails.
SET SESSION AUTHORIZATION postern;
SAVEPOINT before;
SET TRANSACTION READ ONLY;
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-a,tg-b}'), NULL,
    'a second login with the same groups writes nothing');
SELECT pg_temp.fails($$SELECT pg_temp.login('tp-ann', '{tg-a}')$$, '25006',
    'while a different one does write');
ROLLBACK TO SAVEPOINT before;

SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b,tg-c}'),
    'create_group tg-c, revoke tg-a, grant tg-c', 'a changed group set is followed');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-b, tg-c', 'to the letter');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b,tg-c}', 2), 'set_secret tp-ann',
    'a changed secret is written');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b,tg-c}', 2, p_force => true),
    'set_secret tp-ann', 'a forced secret is written although it is the same');

-- An administrator's hand.
RESET SESSION AUTHORIZATION;
CREATE ROLE "th-own";
GRANT "th-own" TO "tp-ann";
REVOKE "tg-b" FROM "tp-ann" GRANTED BY postern_owner;
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b,tg-c}', 2), 'grant tg-b',
    'a membership that was taken away by hand comes back');
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-c}', 2), 'revoke tg-b',
    'what Postern granted is revoked');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-c, th-own',
    'what an administrator granted stays');
RESET SESSION AUTHORIZATION;
REVOKE "tg-c" FROM "tp-ann" GRANTED BY postern_owner;
GRANT "tg-c" TO "tp-ann";
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b}', 2), 'grant tg-b, revoke tg-c',
    'a group that an administrator granted over ours is forgotten');
SELECT pg_temp.same(pg_temp.member_of('tp-ann'), 'tg-b, tg-c, th-own', 'and not revoked');

SELECT pg_temp.same(
    (SELECT string_agg(a.action, ', ') FROM postern.apply_login('tp-ann', 'guid:tp-ann',
        'ann', 'cn=tp-ann,ou=moved', '{tg-b}', pg_temp.verifier(2), 'create', false, 's') a),
    'record_entry', 'a moved entry is remembered');

-- A role that was dropped by hand, and one that was renamed by hand.
RESET SESSION AUTHORIZATION;
DROP ROLE "tp-ann";
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('tp-ann', '{tg-b}', 2),
    'create_role tp-ann, grant tg-b',
    'a role that was dropped by hand is made again');
RESET SESSION AUTHORIZATION;
ALTER ROLE "tp-ann" RENAME TO "tp-ann2";
SET SESSION AUTHORIZATION postern;
SELECT pg_temp.same(pg_temp.login('tp-ann2', '{tg-b}', 2, p_id => 'guid:tp-ann'),
    'record_entry tp-ann2', 'a role that was renamed by hand belongs to the same person');

-- Policies for groups without a role.
SELECT pg_temp.same(pg_temp.login('tp-bob', '{tg-b,tg-none}', p_missing => 'skip'),
    'create_role tp-bob, grant tg-b, skip_group tg-none',
    'with the policy skip a group without a role is left out');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.done();
ROLLBACK;
