-- name: begin
insert into marks (name, value) values ('admission', '') on conflict (name) do nothing;

-- name: lock
-- Waits for every attempt that is being opened; whoever comes later finds the next generation.
select value from marks where name = 'admission' for update;

-- name: change
update marks set value = %(generation)s, set_at = now() where name = 'admission';

-- name: truth
-- Everything that admission counts, in one statement and so at one moment. Times in Unix ms.
-- hold: an open attempt; call: admitted of late (an answer from the cache is none); hour: spent by calls admitted in it; run, key, batch: spent in all.
select 'hold' as kind, a.id, a.provider, a.model, a.run_id, r.key_id, r.batch_id,
       round(extract(epoch from a.started_at) * 1000)::bigint as at_ms, a.hold_nanousd as amount, a.tokens
from attempts a join runs r on r.id = a.run_id
where a.status = 'open'
union all
select 'call', id, provider, model, null, null, null, round(extract(epoch from started_at) * 1000)::bigint, 0, tokens
from attempts
where id >= %(recent)s and started_at >= to_timestamp(%(since_ms)s / 1000.0) and not decision ? 'cache'
union all
select 'hour', null, e.provider, null, null, null, null,
       extract(epoch from date_bin('1 hour', coalesce(a.started_at, e.created_at), 'epoch'))::bigint * 1000,
       sum(e.amount_nanousd)::bigint, 0
from entries e left join lateral (select started_at from attempts where id = e.attempt_id limit 1) a on true -- one by one
where e.created_at >= to_timestamp(%(booked_ms)s / 1000.0) -- by another clock than that which admits
  and coalesce(a.started_at, e.created_at) >= to_timestamp(%(day_ms)s / 1000.0)
group by e.provider, 8
union all
select 'run', id, null, null, null, null, null, 0, cost_nanousd, 0
from runs
where status in ('queued', 'running') and cost_nanousd <> 0
union all
select 'key', key_id, null, null, null, null, null, 0, sum(amount_nanousd)::bigint, 0
from (select key_id, amount_nanousd from spent_before
      union all
      select key_id, amount_nanousd from entries
      where key_id is not null
        and id > coalesce((select (value::jsonb ->> 'until')::bigint from marks where name = 'folded'), 0)) spent
group by key_id
union all
select 'batch', b.id, null, null, null, null, null, 0, coalesce(sum(r.cost_nanousd), 0)::bigint, 0
from batches b join runs r on r.batch_id = b.id
where b.ended_at is null and b.budget_nanousd is not null
group by b.id;

-- name: note_fold
-- How far entries can be folded next, once all that were noted before are: up to the last one that is seen now. One with a
-- lower number may come to light yet, but only of a transaction that is under way now: none of them has a number from
-- `xid` on, as whoever writes an entry has locked its run before it draws the entry's number. Noted anew where that number
-- has not been reached: Postgres was replaced by one that counts its own.
insert into marks (name, value)
select 'folded', jsonb_build_object('until', 0, 'next', coalesce(max(id), 0), 'xid', pg_snapshot_xmax(pg_current_snapshot())::text::bigint)::text
from entries
on conflict (name) do update set value = (marks.value::jsonb || excluded.value::jsonb - 'until')::text, set_at = now()
where (marks.value::jsonb ->> 'until')::bigint >= (marks.value::jsonb ->> 'next')::bigint
   or (marks.value::jsonb ->> 'xid')::bigint > (excluded.value::jsonb ->> 'xid')::bigint;

-- name: fold
-- Add the next entries to what their keys have spent before, and note up to which one. No row: there are none that nobody
-- can add to any more. That is asked of the snapshot in which the entries are read.
with mark as (
    select (value::jsonb ->> 'until')::bigint as until, (value::jsonb ->> 'next')::bigint as next, (value::jsonb ->> 'xid')::bigint as xid
    from marks where name = 'folded' for update
), page as (
    select until, least(next, until + %(limit)s) as upto from mark
    where until < next and xid <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
), folded as (
    insert into spent_before (key_id, amount_nanousd)
    select e.key_id, sum(e.amount_nanousd)
    from page p join entries e on e.id > p.until and e.id <= p.upto
    where e.key_id is not null
    group by e.key_id
    on conflict (key_id) do update set amount_nanousd = spent_before.amount_nanousd + excluded.amount_nanousd
)
update marks m set value = jsonb_set(m.value::jsonb, '{until}', to_jsonb(p.upto))::text, set_at = now()
from page p where m.name = 'folded'
returning p.upto;

-- name: ended
-- What became of attempts that hold something: those still open, and what the ended ones took. The unknown are absent.
select a.id, a.status <> 'open' and a.finished_at <= now() - make_interval(secs => %(calm)s) as has_ended,
       coalesce(sum(e.amount_nanousd), 0)::bigint as amount,
       coalesce(sum(e.input_tokens), 0)::bigint as input,
       coalesce(sum(e.output_tokens), 0)::bigint as output
from attempts a left join entries e on e.run_id = a.run_id and e.attempt_id = a.id
where a.id = any(%(attempts)s)
group by a.id;
