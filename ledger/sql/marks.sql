-- name: set
insert into marks (name, value) values (%(name)s, %(value)s)
on conflict (name) do update set value = excluded.value, set_at = now();

-- name: get
select value from marks where name = %(name)s;

-- name: drained
-- The steps queue is first in, first out: whatever was sent before this moment has been taken from it.
insert into marks (name, value) values ('drained', %(sent_at)s)
on conflict (name) do update set value = greatest(marks.value::timestamptz, excluded.value::timestamptz)::text, set_at = now();

-- name: sound
-- The moment of a new sounding, while runs are open: one at a time, unless the last one was lost.
insert into marks (name, value)
select 'sounded', clock_timestamp()::text
where exists (select from runs where status in ('queued', 'running'))
  and not exists (
    select from marks s
    where s.name = 'sounded' and s.set_at > now() - interval '5 seconds'
      and not exists (select from marks d where d.name = 'drained' and d.value::timestamptz >= s.value::timestamptz))
on conflict (name) do update set value = excluded.value, set_at = now()
returning value;

-- name: try_lock
-- Held until the transaction ends; false when another scheduler is at it.
select pg_try_advisory_xact_lock(hashtext(%(name)s)) as is_mine;
