-- Names are data: whatever a directory calls a person or a group.
\ir tap.sql
SET SESSION AUTHORIZATION postern;

SELECT pg_temp.same(
    pg_temp.login(n.name, ARRAY['tg ' || left(n.name, 20)]),
    format('create_role %s, create_group %2$s, grant %2$s', n.name,
        'tg ' || left(n.name, 20)),
    format('%s bytes: %s', octet_length(n.name), n.name))
FROM unnest(ARRAY['O''Neil', 'a"b', 'a.b', 'a-b', 'Ann', 'user', 'select', 'a b', ' ', 'a\b',
    'a;DROP ROLE postgres;--', '%s%I%L', '$$', 'ünï', 'anna🦊', repeat('x', 63),
    repeat('é', 31) || 'x', '-', '"', '''', 'current_user', '{a,b}', 'a,b', 'NULL']) AS n (name);
SELECT pg_temp.same(pg_temp.login(n.name, ARRAY['tg ' || left(n.name, 20)]), NULL,
    'again, nothing changes: ' || n.name)
FROM unnest(ARRAY['O''Neil', 'a"b', 'a\b', 'anna🦊', '{a,b}', 'NULL', '"']) AS n (name);
SELECT pg_temp.same(pg_temp.login(n.name, '{tg-new}'),
    format('create_group tg-new, revoke tg %s, grant tg-new', n.name), 'revoked: ' || n.name)
FROM unnest(ARRAY['a"b']) AS n (name);
SELECT pg_temp.same(postern.revoke_login('O''Neil', 'guid:O''Neil', 's', 'why', 0)::text, '0',
    'and taken away');
SELECT pg_temp.same(pg_temp.member_of('O''Neil'), NULL, 'wholly');
SELECT pg_temp.ok(
    (SELECT count(*) = 2 FROM pg_roles WHERE rolname IN ('Ann', 'postgres')),
    'upper case is kept, and nothing was dropped');
SELECT pg_temp.same(pg_temp.login('ann', '{tg-new}'),
    'create_role ann, grant tg-new', 'names differ by case');

RESET SESSION AUTHORIZATION;
SELECT pg_temp.done();
ROLLBACK;
