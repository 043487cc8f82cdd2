-- name: open
-- Claim the step for one call. No row: another message was first, or this one is of an old epoch.
-- Here and below a run is locked before its attempts and its steps, so that no two statements wait for each other.
-- A rebuild of the admission's counters waits for whoever has the generation's mark, and nobody gets the mark of an
-- older generation: so every open attempt is either seen by the rebuild or never opened.
with admission as (
    select from marks where name = 'admission' and value = %(generation)s for key share
), run as (
    select id from runs
    where id = %(run)s and epoch = %(epoch)s and status in ('queued', 'running') and cancel_requested_at is null
      and (%(generation)s::text is null or exists (select from admission))
    for no key update
), step as (
    update steps s
    set status = 'running', attempts = s.attempts + 1, provider = %(provider)s, model = %(model)s,
        started_at = coalesce(s.started_at, now())
    from run
    where s.run_id = run.id and s.idx = %(idx)s and s.status in ('pending', 'waiting')
    returning s.run_id, s.idx, s.attempts
), started as (
    update runs r set status = 'running', started_at = now(), touched_at = now()
    from step where r.id = step.run_id and r.status = 'queued'
)
insert into attempts (id, run_id, idx, number, provider, model, owner, lease_until, hold_nanousd, spent_nanousd, tokens,
                      decision, started_at)
select %(attempt)s, run_id, idx, attempts, %(provider)s, %(model)s, %(owner)s,
       now() + make_interval(secs => %(lease)s), %(hold)s, %(spent)s, %(tokens)s,
       %(decision)s, coalesce(%(admitted_at)s, now())
from step
returning number;

-- name: opened
-- Was this attempt opened before? Asked when an open found nothing, for example after a lost answer.
select number from attempts where id = %(attempt)s and status = 'open';

-- name: take
-- The worker that will make the call takes the lease from the one that admitted it. Asked again, it has it already.
update attempts a set owner = %(owner)s, lease_until = now() + make_interval(secs => %(lease)s)
from runs r, steps s
where a.id = %(attempt)s and a.status = 'open' and (a.owner is null and a.lease_until > now() or a.owner = %(owner)s)
  and r.id = a.run_id and s.run_id = a.run_id and s.idx = a.idx and coalesce(r.cancel_requested_at, s.cancel_requested_at) is null
returning a.number, a.provider, a.model, a.hold_nanousd, a.decision -> 'admitted' as admitted;

-- name: call_back
-- Redis came back empty: calls that were handed over to another worker's queue are not on their way any more.
update attempts set lease_until = now(), error = '{"type": "abandoned", "message": "its message was lost"}'
where status = 'open' and owner is null;

-- name: call_back_lost
-- Calls that were handed over, and whose provider's queue was drained past them a while ago: nobody took them from it.
-- When they were claimed is told by their lease: it began by Postgres' clock, and the call by Redis'.
update attempts a set lease_until = now(), error = '{"type": "abandoned", "message": "its message was lost"}'
from marks d
where a.status = 'open' and a.owner is null and a.lease_until > now()
  and d.name = 'drained:' || a.provider and d.set_at < now() - make_interval(secs => %(calm)s)
  and a.lease_until < d.value::timestamptz + make_interval(secs => %(lease)s - %(calm)s);

-- name: call_back_cancelled
-- Calls that were handed over, that nobody has taken, and that nobody wants any more.
update attempts a set lease_until = now(), error = '{"type": "cancelled", "message": "it was cancelled"}'
from runs r, steps s
where a.status = 'open' and a.owner is null and a.lease_until > now()
  and r.id = a.run_id and s.run_id = a.run_id and s.idx = a.idx
  and coalesce(r.cancel_requested_at, s.cancel_requested_at) is not null;

-- name: call_back_late
-- Calls that were handed over, that nobody has taken, and whose run or step has no time left: nobody would wait for them.
-- A moment that is written as nobody writes it is left to the lease: it must not keep the others from being called back.
update attempts a set lease_until = now(), error = '{"type": "deadline_passed", "message": "its time was over before its call was taken"}'
from runs r, steps s left join unnest(%(goblins)s::text[], %(timeouts)s::float8[]) as g (name, timeout) on g.name = s.goblin
where a.status = 'open' and a.owner is null and a.lease_until > now()
  and r.id = a.run_id and s.run_id = a.run_id and s.idx = a.idx
  and (s.started_at + make_interval(secs => g.timeout) <= now()
       or case when r.options ->> 'deadline' ~ '^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-](0\d|1[0-5]):\d\d)$'
               then (r.options ->> 'deadline')::timestamptz <= now() end);

-- name: renew
-- All leases of one worker process; what does not come back is lost, what is cancelled, with its run or alone, must stop.
update attempts a
set lease_until = now() + make_interval(secs => %(lease)s), spent_nanousd = held.spent
from unnest(%(attempts)s::uuid[], %(spent)s::bigint[]) as held (id, spent), runs r, steps s
where a.id = held.id and a.owner = %(owner)s and a.status = 'open'
  and r.id = a.run_id and s.run_id = a.run_id and s.idx = a.idx
returning a.id, coalesce(r.cancel_requested_at, s.cancel_requested_at) is not null as is_cancelled;

-- name: hold
-- The most that a call under way may cost is another one now.
update attempts set hold_nanousd = %(amount)s
where id = %(attempt)s and owner = %(owner)s and status = 'open'
returning id;

-- name: release
-- A worker that stops has ended its calls itself and knows what they have cost: nobody need charge the most for them.
update attempts a
set lease_until = now(), spent_nanousd = held.spent, hold_nanousd = least(a.hold_nanousd, held.spent)
from unnest(%(attempts)s::uuid[], %(spent)s::bigint[]) as held (id, spent)
where a.id = held.id and a.owner = %(owner)s and a.status = 'open';

-- name: settle
-- The end of a call: attempt, entry, step and run in one statement. The step is fenced by the attempt's number; a
-- cancelled run or step is not free again, and nobody goes on with what was said for it or hears of the fault.
-- Whoever closes the last step, and knew that it was, says what the run becomes.
with run as (
    select r.id, r.cancel_requested_at is not null as is_cancelled
    from attempts a join runs r on r.id = a.run_id
    where a.id = %(attempt)s
    for no key update of r
), attempt as (
    update attempts a
    set status = %(status)s, error = %(error)s, finish = %(finish)s, ttft_ms = %(ttft_ms)s, duration_ms = %(duration_ms)s,
        spent_nanousd = %(amount)s, finished_at = now()
    from run
    where a.id = %(attempt)s and a.status = 'open'
    returning a.id, a.run_id, a.idx, a.number, a.provider, a.model,
              run.is_cancelled, %(step_status)s = 'pending' as is_freed
), entry as (
    insert into entries (attempt_id, run_id, idx, key_id, kind, goblin, provider, model, is_measured, input_tokens, cache_read_tokens,
                         cache_write_tokens, output_tokens, reasoning_tokens, price, amount_nanousd)
    select id, run_id, idx, %(key)s, 'charge', %(goblin)s, provider, model, %(is_measured)s, %(input)s, %(cache_read)s,
           %(cache_write)s, %(output_tokens)s, %(reasoning)s, %(price)s, %(amount)s
    from attempt where %(is_charged)s
), step as (
    update steps s
    set status = case when a.is_freed and (a.is_cancelled or s.cancel_requested_at is not null) then 'cancelled' else %(step_status)s end,
        output = case when a.is_freed and (a.is_cancelled or s.cancel_requested_at is not null) then null else %(output)s end,
        error = case when a.is_freed and (a.is_cancelled or s.cancel_requested_at is not null)
                     then '{"type": "cancelled", "message": "it was cancelled"}' else %(error)s end,
        cost_nanousd = s.cost_nanousd + %(amount)s,
        finished_at = case when not a.is_freed or a.is_cancelled or s.cancel_requested_at is not null then now() end
    from attempt a
    where s.run_id = a.run_id and s.idx = a.idx and s.attempts = a.number and s.status = 'running'
    returning s.run_id, s.status, s.parked, s.cost_nanousd
)
update runs r
set open_steps = r.open_steps - (step.status <> 'pending')::int, cost_nanousd = r.cost_nanousd + %(amount)s, touched_at = now(),
    status = case when step.status <> 'pending' and r.open_steps = 1 then coalesce(%(run_status)s, r.status) else r.status end,
    finished_at = case when step.status <> 'pending' and r.open_steps = 1 and %(run_status)s::text is not null then now() end
from step where r.id = step.run_id
returning r.open_steps, r.epoch, r.cost_nanousd as run_cost, case when r.finished_at is not null then r.status end as run_status,
          step.status, step.parked, step.cost_nanousd;

-- name: settled_by
-- Was this attempt settled before, and how? Asked when a settle found nothing, for example after a lost answer.
select a.status as attempt_status, r.open_steps, r.epoch, r.cost_nanousd as run_cost,
       case when r.finished_at is not null then r.status end as run_status, s.status, s.parked, s.cost_nanousd
from attempts a join steps s on s.run_id = a.run_id and s.idx = a.idx join runs r on r.id = a.run_id
where a.id = %(attempt)s;

-- name: correct
-- Money that a worker really spent after its lease was lost: the difference to what was charged for it. What is only
-- estimated takes nothing back: the provider may have gone on while nobody listened.
with run as (
    select r.id from attempts a join runs r on r.id = a.run_id
    where a.id = %(attempt)s and a.status = 'abandoned'
    for no key update of r
), charged as (
    select coalesce(sum(e.amount_nanousd), 0) as amount from entries e, run where e.run_id = run.id and e.attempt_id = %(attempt)s
), attempt as (
    update attempts a set spent_nanousd = %(amount)s
    from run, charged
    where a.id = %(attempt)s and (%(amount)s > charged.amount or %(is_measured)s and %(amount)s < charged.amount)
    returning a.id, a.run_id, a.idx, a.provider, a.model, %(amount)s - charged.amount as more
), entry as (
    insert into entries (attempt_id, run_id, idx, key_id, kind, goblin, provider, model, is_measured, input_tokens, cache_read_tokens,
                         cache_write_tokens, output_tokens, reasoning_tokens, price, amount_nanousd)
    select id, run_id, idx, %(key)s, 'correction', %(goblin)s, provider, model, %(is_measured)s, %(input)s, %(cache_read)s,
           %(cache_write)s, %(output_tokens)s, %(reasoning)s, %(price)s, more
    from attempt
), step as (
    update steps s set cost_nanousd = s.cost_nanousd + a.more from attempt a where s.run_id = a.run_id and s.idx = a.idx
)
update runs r set cost_nanousd = r.cost_nanousd + a.more from attempt a where r.id = a.run_id
returning %(amount)s::bigint as charged;

-- name: abandon
-- Leases that ran out: the attempt ends and the step is free. Nobody saw how the call ended, so the most that it may
-- have cost is charged as an estimate: its hold, which the budgets have room for.
-- It waits for nobody: what is locked is being worked on, and the next pass will see. Nor is anything given up before
-- Postgres was in reach for a while: until then nobody could renew, and those who live are about to.
with lost as (
    select a.id, r.key_id, r.cancel_requested_at is not null as is_cancelled
    from attempts a join runs r on r.id = a.run_id
    where a.status = 'open' and a.lease_until < now()
      and not exists (select from marks w where w.name = 'watched'
                      and (w.set_at < now() - make_interval(secs => %(gap)s)
                           or w.value::timestamptz > now() - make_interval(secs => %(calm)s)))
    order by a.lease_until limit %(limit)s
    for no key update skip locked
), attempt as (
    update attempts a
    set status = 'abandoned', finished_at = now(),
        spent_nanousd = case when a.owner is null then 0 else a.hold_nanousd end, -- never taken: nobody was called
        error = coalesce(a.error, case when a.owner is null then jsonb_build_object(
            'type', 'untaken', 'message', 'no worker took the call from the queue of ' || a.provider,
            'details', jsonb_build_object('failed_at_ms', round(extract(epoch from now()) * 1000)))
            else '{"type": "abandoned", "message": "the worker that made this call went away"}' end)
    from lost where a.id = lost.id
    returning a.id, a.run_id, a.idx, a.number, a.provider, a.model, a.decision, a.owner, a.spent_nanousd, lost.key_id, lost.is_cancelled
), entry as (
    insert into entries (attempt_id, run_id, idx, key_id, kind, goblin, provider, model, is_measured, input_tokens, cache_read_tokens,
                         cache_write_tokens, output_tokens, reasoning_tokens, price, amount_nanousd)
    select a.id, a.run_id, a.idx, a.key_id, 'charge', s.goblin, a.provider, a.model, false, 0, 0, 0, 0, 0,
           coalesce(a.decision -> 'price', '{}'), a.spent_nanousd
    from attempt a join steps s on s.run_id = a.run_id and s.idx = a.idx
    where a.owner is not null
), step as (
    update steps s
    set status = case when a.is_cancelled or s.cancel_requested_at is not null then 'cancelled' else 'pending' end,
        output = case when a.is_cancelled or s.cancel_requested_at is not null then null else s.output end,
        error = case when a.is_cancelled or s.cancel_requested_at is not null
                     then '{"type": "cancelled", "message": "it was cancelled"}' else s.error end,
        finished_at = case when a.is_cancelled or s.cancel_requested_at is not null then now() end,
        cost_nanousd = s.cost_nanousd + a.spent_nanousd
    from attempt a
    where s.run_id = a.run_id and s.idx = a.idx and s.attempts = a.number and s.status = 'running'
    returning s.run_id, s.idx, s.status
)
update runs r
set cost_nanousd = r.cost_nanousd + lost.spent, open_steps = r.open_steps - lost.cancelled, epoch = r.epoch + 1,
    renewed_at = now(), touched_at = now()
from (select a.run_id, count(*) as attempts, sum(a.spent_nanousd) as spent,
             count(*) filter (where s.status = 'cancelled') as cancelled
      from attempt a left join step s on s.run_id = a.run_id and s.idx = a.idx group by a.run_id) lost
where r.id = lost.run_id
returning r.id, r.epoch, r.open_steps, lost.attempts;
