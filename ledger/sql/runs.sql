-- name: submit
-- A run and its steps, or nothing when its idempotency key is known already.
with run as (
    insert into runs (id, key_id, workflow, plan, input, options, open_steps, idempotency_key, idempotency_digest)
    values (%(id)s, %(key)s, %(workflow)s, %(plan)s, %(input)s, %(options)s, cardinality(%(goblins)s::text[]),
            %(idempotency_key)s, %(idempotency_digest)s)
    on conflict (coalesce(key_id, '00000000-0000-0000-0000-000000000000'::uuid), idempotency_key)
        where idempotency_key is not null do nothing
    returning id
), step as (
    insert into steps (run_id, idx, goblin, task, after)
    select run.id, s.nr - 1, s.goblin, s.task, array(select jsonb_array_elements_text(s.after)::smallint)
    from run, unnest(%(goblins)s::text[], %(tasks)s::text[], %(afters)s::jsonb[]) with ordinality as s (goblin, task, after, nr)
)
select id from run;

-- name: submitted_before
-- The run that holds an idempotency key, and what it was asked with.
select id, idempotency_digest as digest
from runs
where coalesce(key_id, '00000000-0000-0000-0000-000000000000'::uuid)
    = coalesce(%(key)s::uuid, '00000000-0000-0000-0000-000000000000'::uuid)
  and idempotency_key = %(idempotency_key)s;

-- name: mark_published
-- Locked in one order, as all who change several runs do it.
with sent as (
    select r.id from runs r join unnest(%(runs)s::uuid[], %(epochs)s::int[]) as s (run, epoch) on s.run = r.id and s.epoch = r.epoch
    order by r.id for no key update of r
)
update runs r set published_epoch = r.epoch, published_at = now(), touched_at = now()
from sent where r.id = sent.id;

-- name: request_cancel
-- Locks the run, so that no step changes until `cancel_steps` has ended the open ones.
update runs set cancel_requested_at = coalesce(cancel_requested_at, now()), touched_at = now()
where id = %(run)s and status in ('queued', 'running')
returning id;

-- name: cancel_steps
-- Open steps end here; running ones end when their worker reads the request at its next renewal.
with step as (
    update steps set status = 'cancelled', output = null, error = null, finished_at = now()
    where run_id = %(run)s and status in ('pending', 'waiting')
    returning idx
), run as (
    update runs set open_steps = open_steps - (select count(*) from step) where id = %(run)s
)
select idx from step order by idx;

-- name: cancel_step
-- One step ends here, unless a call is made for it: that one is cut by its worker, who reads the request at its next
-- renewal. What follows a step that ends here may depend on a message that waits somewhere: it is published anew.
with run as (
    select id from runs where id = %(run)s and status in ('queued', 'running') for no key update
), step as (
    update steps s
    set cancel_requested_at = coalesce(s.cancel_requested_at, now()),
        status = case when s.status = 'running' then s.status else 'cancelled' end,
        output = case when s.status = 'running' then s.output end,
        error = case when s.status = 'running' then s.error else %(error)s end,
        finished_at = case when s.status <> 'running' then now() end
    from run where s.run_id = run.id and s.idx = %(idx)s and s.status in ('pending', 'waiting', 'running')
    returning s.run_id, s.status
)
update runs r
set open_steps = r.open_steps - (step.status = 'cancelled')::int, epoch = r.epoch + (step.status = 'cancelled')::int,
    renewed_at = case when step.status = 'cancelled' then now() else r.renewed_at end, touched_at = now()
from step where r.id = step.run_id
returning step.status, r.open_steps, r.epoch;

-- name: finish
-- Once, by whoever found the last step closed and the run not.
update runs set status = %(status)s, finished_at = now(), touched_at = now()
where id = %(run)s and open_steps = 0 and (status = 'running' or status = 'queued' and %(status)s <> 'succeeded')
returning cost_nanousd;

-- name: remainders
-- What new canvases of runs are compiled from.
select r.id, r.plan, r.epoch, r.options, r.batch_id is not null as is_batch,
       coalesce((select array_agg(s.idx) from steps s
                 where s.run_id = r.id and s.status in ('succeeded', 'failed', 'skipped', 'cancelled')), '{}') as settled
from runs r where r.id = any (%(runs)s);

-- name: renew_epochs
-- Locked in one order, so that no two recoveries wait for each other.
with known as (
    select r.id from runs r join unnest(%(runs)s::uuid[], %(epochs)s::int[]) as k (run, epoch) on k.run = r.id and k.epoch = r.epoch
    where r.status in ('queued', 'running')
    order by r.id for no key update of r
)
update runs r set epoch = r.epoch + 1, renewed_at = now(), touched_at = now()
from known where r.id = known.id
returning r.id, r.epoch;

-- name: unpublished
-- Runs whose current epoch has not reached the broker, as far as anybody noted. Those for which no call is under way
-- come first: the others move without it.
select id, epoch from runs
where status in ('queued', 'running') and published_epoch < epoch
  and renewed_at < now() - make_interval(secs => %(calm)s)
order by id in (select run_id from attempts where status = 'open'), renewed_at limit %(limit)s;

-- name: unfinished
-- Runs whose last step closed without anybody living to say so.
select id from runs
where status in ('queued', 'running') and open_steps = 0
  and touched_at < now() - make_interval(secs => %(calm)s)
limit %(limit)s;

-- name: statuses
select s.idx, s.status, r.cancel_requested_at is not null as is_cancelled
from steps s join runs r on r.id = s.run_id where s.run_id = %(run)s;

-- name: stalled
-- Open runs with a step that is due and that nobody took, although their queue of steps was drained past the moment at
-- which its message was sent: when the run was published, or when what stands before the step had settled, or when the
-- step's last call had ended. What else of the run is called or waits says nothing about that message.
-- A loss shows at once, so all that moved within a minute are looked at, and a page of the others: many may wait.
with recursive mark as (
    select name <> 'drained' as is_batch, value::timestamptz - make_interval(secs => %(calm)s) as moment
    from marks where name in ('drained', 'drained:steps.batch')
), known as (
    select r.id, r.epoch, r.published_at, mark.moment from runs r join mark on mark.is_batch = (r.batch_id is not null)
    where r.status in ('queued', 'running') and r.open_steps > 0 and r.published_epoch = r.epoch
      and r.published_at < mark.moment
      and (r.touched_at > mark.moment - interval '60 seconds' or r.id > %(after)s and r.id <= %(until)s)
), due as (
    select s.run_id, s.idx, s.after, k.moment from known k join steps s on s.run_id = k.id
    where s.status = 'pending'
      and not exists (select from steps b where b.run_id = s.run_id and b.idx = any (s.after)
                      and (b.status in ('pending', 'waiting', 'running') or b.finished_at >= k.moment))
      and not exists (select from attempts a where a.run_id = s.run_id and a.idx = s.idx and a.number = s.attempts
                      and a.finished_at >= k.moment)
), earlier as (
    -- a step that was cancelled before its turn leaves open steps behind itself
    select d.run_id, d.idx, d.moment, unnest(d.after) as before from due d
    union
    select e.run_id, e.idx, e.moment, unnest(b.after) from earlier e join steps b on b.run_id = e.run_id and b.idx = e.before
)
select k.id, k.epoch from known k
where exists (select from due d where d.run_id = k.id and not exists (
    select from earlier e join steps b on b.run_id = e.run_id and b.idx = e.before
    where e.run_id = d.run_id and e.idx = d.idx
      and (b.status in ('pending', 'waiting', 'running') or b.finished_at >= e.moment)))
order by k.published_at limit %(limit)s;

-- name: page_end
-- The last of so many open runs behind another one, in the order of their making.
select id from runs where status in ('queued', 'running') and id > %(after)s order by id limit 1 offset %(size)s - 1;

-- name: outdate_all
-- Redis came back empty: every message is gone, so every open run is published anew.
update runs set epoch = epoch + 1, renewed_at = now(), touched_at = now() where status in ('queued', 'running') and published_epoch = epoch;
