-- name: create
insert into keys (id, name, digest, budget_nanousd, rpm, weight)
values (%(id)s, %(name)s, %(digest)s, %(budget)s, %(rpm)s, %(weight)s)
on conflict (name) do nothing
returning id;

-- name: seed
-- A secret that opens another key already is left to that one.
insert into keys (id, name, digest)
select %(id)s, %(name)s, %(digest)s
where not exists (select from keys where digest = %(digest)s and name <> %(name)s)
on conflict (name) do update set digest = excluded.digest, revoked_at = null
where keys.digest <> excluded.digest or keys.revoked_at is not null;

-- name: revoke
update keys set revoked_at = now() where name = %(name)s and revoked_at is null returning id;
