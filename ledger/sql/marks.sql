-- name: set
insert into marks (name, value) values (%(name)s, %(value)s)
on conflict (name) do update set value = excluded.value, set_at = now();

-- name: get
select value from marks where name = %(name)s;

-- name: drained
-- The steps queue is first in, first out: whatever was sent before this moment has been taken from it.
insert into marks (name, value) values ('drained', %(sent_at)s)
on conflict (name) do update set value = greatest(marks.value::timestamptz, excluded.value::timestamptz)::text, set_at = now();

-- name: now
select now()::text as now;

-- name: try_lock
-- Held until the transaction ends; false when another scheduler is at it.
select pg_try_advisory_xact_lock(hashtext(%(name)s)) as is_mine;
