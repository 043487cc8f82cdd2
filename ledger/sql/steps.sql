-- name: look
-- All that a step message needs to decide, in one row.
select r.status as run_status, r.epoch, r.plan, r.input, r.options, r.key_id, r.cancel_requested_at is not null as is_cancelled,
       s.status, s.started_at, s.attempts, s.output, s.error, k.budget_nanousd as key_budget, coalesce(k.weight, 1) as key_weight,
       r.batch_id, b.budget_nanousd as batch_budget, r.cost_nanousd as run_cost,
       coalesce((select jsonb_agg(jsonb_build_array(o.idx, o.status, case when o.idx = any (s.after) then o.output end, o.error))
                 from steps o
                 where o.run_id = r.id and o.status in ('succeeded', 'failed', 'skipped', 'cancelled')), '[]') as settled,
       case when s.attempts > 0 then
           (select jsonb_agg(jsonb_build_array(a.provider, a.model, a.error) order by a.number)
            from attempts a where a.run_id = r.id and a.idx = s.idx and a.status <> 'open')
       end as tried
from runs r join steps s on s.run_id = r.id left join keys k on k.id = r.key_id left join batches b on b.id = r.batch_id
where r.id = %(run)s and s.idx = %(idx)s;

-- name: outputs
select idx, output, error from steps where run_id = %(run)s and idx = any (%(steps)s);

-- name: close
-- End a step that makes no call: skipped, or failed because nobody can serve it. One that waited is not skipped any more.
with run as (
    select id from runs where id = %(run)s and epoch = %(epoch)s and status in ('queued', 'running') for no key update
), step as (
    update steps s
    set status = %(status)s, output = null, error = %(error)s, decision = %(decision)s, finished_at = now()
    from run
    where s.run_id = run.id and s.idx = %(idx)s
      and (s.status = 'pending' or s.status = 'waiting' and %(status)s <> 'skipped')
    returning s.run_id, s.status, s.parked, s.cost_nanousd
)
update runs r
set open_steps = r.open_steps - 1, touched_at = now(),
    status = case when r.open_steps = 1 then coalesce(%(run_status)s, r.status) else r.status end,
    finished_at = case when r.open_steps = 1 and %(run_status)s::text is not null then now() end
from step where r.id = step.run_id
returning r.open_steps, r.epoch, r.cost_nanousd as run_cost, case when r.finished_at is not null then r.status end as run_status,
          step.status, step.parked, step.cost_nanousd;

-- name: wait
-- Refused for capacity: the step waits in a room of Redis, and here it is known that it does, and what for.
with before as (
    select case when status = 'waiting' then decision -> 'waits' end as waits
    from steps where run_id = %(run)s and idx = %(idx)s
), run as (
    select id from runs
    where id = %(run)s and epoch = %(epoch)s and status in ('queued', 'running') and cancel_requested_at is null
    for no key update
)
update steps s set status = 'waiting', decision = %(decision)s
from run where s.run_id = run.id and s.idx = %(idx)s and s.status in ('pending', 'waiting')
returning (select waits from before) as waits;

-- name: waiting
-- A page of those who wait, from a step on.
select s.run_id, s.idx, r.epoch, now() as now, r.batch_id is not null as is_batch
from steps s join runs r on r.id = s.run_id
where s.status = 'waiting' and r.status in ('queued', 'running') and r.published_epoch = r.epoch
  and (s.run_id, s.idx) > (%(run)s, %(idx)s)
order by s.run_id, s.idx limit %(limit)s;

-- name: park
-- Wait for a running step to settle; nothing when it has settled meanwhile.
update steps set parked = coalesce(parked, '[]') || jsonb_build_array(%(signature)s::jsonb)
where run_id = %(run)s and idx = %(idx)s and status = 'running'
returning idx;
