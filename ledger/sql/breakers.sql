-- name: keep
-- The newest state of some breakers, each as it was at its moment (Unix ms, by Redis' clock). Whoever is late changes nothing.
insert into marks (name, value, set_at)
select 'breaker:' || name, state, to_timestamp(at_ms / 1000.0)
from unnest(%(names)s::text[], %(states)s::text[], %(moments)s::bigint[]) as kept (name, state, at_ms)
order by name
on conflict (name) do update set value = excluded.value, set_at = excluded.set_at
where marks.set_at <= excluded.set_at;

-- name: kept
-- Those that changed in the last day.
select substr(name, length('breaker:') + 1) as name, value as state
from marks
where starts_with(name, 'breaker:') and set_at > now() - interval '1 day';

-- name: ends
-- How the newest calls of each candidate ended, of those admitted of late; the oldest first. An answer from the cache
-- is none, and one that judged with FAIL is an answer: its error is the step's.
select provider, model, at_ms, age_ms, error, key
from (
  select provider, model, finished_at, case when status = 'failed' then error end as error, coalesce(decision ->> 'key', '') as key,
         round(extract(epoch from started_at) * 1000)::bigint as at_ms,
         round(extract(epoch from now() - finished_at) * 1000)::bigint as age_ms,
         row_number() over (partition by provider, model order by finished_at desc) as place
  from attempts
  where id >= %(recent)s and started_at >= to_timestamp(%(since_ms)s / 1000.0) and status in ('succeeded', 'failed')
    and not decision ? 'cache'
) as ended
where place <= %(each)s
order by finished_at;
