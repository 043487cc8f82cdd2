-- name: set
insert into marks (name, value) values (%(name)s, %(value)s)
on conflict (name) do update set value = excluded.value, set_at = now();

-- name: get
select value from marks where name = %(name)s;

-- name: drained
-- A queue is first in, first out: whatever was sent before this moment has been taken from it.
insert into marks (name, value) values (%(name)s, %(sent_at)s)
on conflict (name) do update set value = greatest(marks.value::timestamptz, excluded.value::timestamptz)::text, set_at = now();

-- name: sound
-- The moment of a new sounding, while runs (of batches) are open: when the last one was drained, or is on its way for a
-- tenth of the time that a message needs through the queue just now, or for five seconds: it may be lost.
insert into marks (name, value)
select %(sounded)s, clock_timestamp()::text
where case when %(is_batch)s
           then exists (select from batches where status in ('validating', 'in_progress', 'finalizing', 'cancelling'))
           else exists (select from runs where status in ('queued', 'running')) end
  and not exists (
    select from marks s left join marks d on d.name = %(drained)s
    where s.name = %(sounded)s and (d.name is null or d.value::timestamptz < s.value::timestamptz)
      and s.set_at > now() - case when d.name is null then interval '5 seconds' else
          least(interval '5 seconds', greatest(interval '0.9 seconds', (now() - d.value::timestamptz) / 10)) end)
on conflict (name) do update set value = excluded.value, set_at = now()
returning value;

-- name: sound_calls
-- The moments of new soundings of providers' queues, in which calls have lain for a while: one line at a time in each,
-- unless the last one was lost, and none before it is known who had not taken his call when the last one was drained. A
-- call has lain there since its lease began.
insert into marks (name, value)
select 'sounded:' || a.provider, clock_timestamp()::text
from (select distinct provider from attempts
      where status = 'open' and owner is null and lease_until > now()
        and lease_until < now() + make_interval(secs => %(lease)s::float8 - %(calm)s::float8)) a
left join marks s on s.name = 'sounded:' || a.provider
left join marks d on d.name = 'drained:' || a.provider
where s.name is null
   or case when d.value::timestamptz >= s.value::timestamptz then d.set_at < now() - make_interval(secs => %(calm)s)
           else s.set_at < now() - interval '5 seconds' end
on conflict (name) do update set value = excluded.value, set_at = now()
returning substring(name from 9) as provider, value;

-- name: watch
-- Who gives up leases is in touch with Postgres: at last now, and since when without a gap is the value.
insert into marks (name, value) values ('watched', now()::text)
on conflict (name) do update set set_at = now(),
    value = case when marks.set_at < now() - make_interval(secs => %(gap)s) then excluded.value else marks.value end;

-- name: calm
-- Was Postgres in reach of them for so many seconds, without a gap?
select exists (select from marks where name = 'watched'
               and set_at >= now() - make_interval(secs => %(gap)s)
               and value::timestamptz <= now() - make_interval(secs => %(calm)s)) as is_calm;

-- name: try_lock
-- Held until the transaction ends; false when another scheduler is at it.
select pg_try_advisory_xact_lock(hashtext(%(name)s)) as is_mine;
