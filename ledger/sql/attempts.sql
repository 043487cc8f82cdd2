-- name: open
-- Claim the step for one call. No row: another message was first, or this one is of an old epoch.
with step as (
    update steps s
    set status = 'running', attempts = s.attempts + 1, provider = %(provider)s, model = %(model)s,
        started_at = coalesce(s.started_at, now())
    from runs r
    where s.run_id = %(run)s and s.idx = %(idx)s and s.status in ('pending', 'waiting')
      and r.id = s.run_id and r.epoch = %(epoch)s and r.status in ('queued', 'running') and r.cancel_requested_at is null
    returning s.run_id, s.idx, s.attempts
), run as (
    update runs r set status = 'running', started_at = now(), touched_at = now()
    from step where r.id = step.run_id and r.status = 'queued'
)
insert into attempts (id, run_id, idx, number, provider, model, owner, lease_until, hold_nanousd, spent_nanousd, decision)
select %(attempt)s, run_id, idx, attempts, %(provider)s, %(model)s, %(owner)s,
       now() + make_interval(secs => %(lease)s), %(hold)s, %(spent)s, %(decision)s
from step
returning number;

-- name: take
-- The worker that will make the call takes the lease from the one that admitted it.
update attempts set owner = %(owner)s, lease_until = now() + make_interval(secs => %(lease)s)
where id = %(attempt)s and status = 'open' and owner is null and lease_until > now()
returning number, provider, model, hold_nanousd;

-- name: renew
-- All leases of one worker process; what does not come back is lost, what is cancelled must stop.
update attempts a
set lease_until = now() + make_interval(secs => %(lease)s), spent_nanousd = held.spent
from unnest(%(attempts)s::uuid[], %(spent)s::bigint[]) as held (id, spent), runs r
where a.id = held.id and a.owner = %(owner)s and a.status = 'open' and r.id = a.run_id
returning a.id, r.cancel_requested_at is not null as is_cancelled;

-- name: settle
-- The end of a call: attempt, entry, step and run in one statement. The step is fenced by the attempt's number.
with attempt as (
    update attempts
    set status = %(status)s, error = %(error)s, finish = %(finish)s, ttft_ms = %(ttft_ms)s, duration_ms = %(duration_ms)s,
        spent_nanousd = %(amount)s, finished_at = now()
    where id = %(attempt)s and status = 'open'
    returning id, run_id, idx, number, provider, model
), entry as (
    insert into entries (attempt_id, run_id, idx, key_id, kind, goblin, provider, model, is_measured, input_tokens, cache_read_tokens,
                         cache_write_tokens, output_tokens, reasoning_tokens, price, amount_nanousd)
    select id, run_id, idx, %(key)s, 'charge', %(goblin)s, provider, model, %(is_measured)s, %(input)s, %(cache_read)s,
           %(cache_write)s, %(output_tokens)s, %(reasoning)s, %(price)s, %(amount)s
    from attempt where %(is_charged)s
), step as (
    update steps s
    set status = %(step_status)s, output = %(output)s, error = %(error)s, cost_nanousd = s.cost_nanousd + %(amount)s,
        finished_at = case when %(closes)s = 1 then now() end
    from attempt a
    where s.run_id = a.run_id and s.idx = a.idx and s.attempts = a.number and s.status = 'running'
    returning s.run_id, s.idx
), woken as (
    delete from parked p using step where p.run_id = step.run_id and p.idx = step.idx and %(closes)s = 1 returning p.signature
), run as (
    update runs r set open_steps = r.open_steps - %(closes)s, cost_nanousd = r.cost_nanousd + %(amount)s, touched_at = now()
    from step where r.id = step.run_id
    returning r.open_steps, r.epoch
)
select run.open_steps, run.epoch, (select jsonb_agg(signature) from woken) as woken from run;

-- name: settled_by
-- Was this attempt settled before, and by whom? Asked when a settle found nothing, for example after a lost answer.
select a.status, a.owner, r.epoch, r.open_steps
from attempts a join runs r on r.id = a.run_id where a.id = %(attempt)s;

-- name: correct
-- Money that a worker really spent after its lease was lost: the difference to what was charged for it.
with charged as (
    select coalesce(sum(amount_nanousd), 0) as amount from entries where attempt_id = %(attempt)s
), attempt as (
    select id, run_id, idx, provider, model from attempts where id = %(attempt)s and status = 'abandoned'
), entry as (
    insert into entries (attempt_id, run_id, idx, key_id, kind, goblin, provider, model, is_measured, input_tokens, cache_read_tokens,
                         cache_write_tokens, output_tokens, reasoning_tokens, price, amount_nanousd)
    select a.id, a.run_id, a.idx, %(key)s, 'correction', %(goblin)s, a.provider, a.model, %(is_measured)s, %(input)s, %(cache_read)s,
           %(cache_write)s, %(output_tokens)s, %(reasoning)s, %(price)s, %(amount)s - charged.amount
    from attempt a, charged where %(amount)s <> charged.amount
    returning run_id, idx, amount_nanousd
), step as (
    update steps s set cost_nanousd = s.cost_nanousd + e.amount_nanousd from entry e where s.run_id = e.run_id and s.idx = e.idx
)
update runs r set cost_nanousd = r.cost_nanousd + e.amount_nanousd from entry e where r.id = e.run_id;

-- name: release
-- A stopping worker gives back what it still holds: the leases end now.
update attempts set lease_until = now() where owner = %(owner)s and status = 'open';

-- name: abandon
-- Leases that ran out: the attempt ends, what it is known to have spent is charged as an estimate, the step is free.
with lost as (
    select a.id, a.run_id, a.idx from attempts a
    where a.status = 'open' and a.lease_until < now()
      and pg_postmaster_start_time() < now() - make_interval(secs => %(calm)s)
    order by a.lease_until limit %(limit)s
    for update skip locked
), attempt as (
    update attempts a
    set status = 'abandoned', finished_at = now(),
        error = '{"type": "abandoned", "message": "the worker that made this call went away"}'
    from lost where a.id = lost.id
    returning a.id, a.run_id, a.idx, a.number, a.provider, a.model, a.spent_nanousd, a.decision
), entry as (
    insert into entries (attempt_id, run_id, idx, key_id, kind, goblin, provider, model, is_measured, input_tokens, cache_read_tokens,
                         cache_write_tokens, output_tokens, reasoning_tokens, price, amount_nanousd)
    select a.id, a.run_id, a.idx, r.key_id, 'charge', s.goblin, a.provider, a.model, false, 0, 0, 0, 0, 0,
           coalesce(a.decision -> 'price', '{}'), a.spent_nanousd
    from attempt a join runs r on r.id = a.run_id join steps s on s.run_id = a.run_id and s.idx = a.idx
), step as (
    update steps s
    set status = case when r.cancel_requested_at is null then 'pending' else 'cancelled' end,
        finished_at = case when r.cancel_requested_at is null then null else now() end,
        cost_nanousd = s.cost_nanousd + a.spent_nanousd
    from attempt a join runs r on r.id = a.run_id
    where s.run_id = a.run_id and s.idx = a.idx and s.attempts = a.number and s.status = 'running'
    returning s.run_id, s.idx, s.status
), run as (
    update runs r
    set cost_nanousd = r.cost_nanousd + lost.spent, open_steps = r.open_steps - lost.cancelled, epoch = r.epoch + 1, touched_at = now()
    from (select a.run_id, sum(a.spent_nanousd) as spent,
                 (select count(*) from step where step.run_id = a.run_id and step.status = 'cancelled') as cancelled
          from attempt a group by a.run_id) lost
    where r.id = lost.run_id
    returning r.id, r.epoch, r.open_steps
)
select run.id, run.epoch, run.open_steps, (select count(*) from attempt a where a.run_id = run.id) as attempts from run;
