-- name: create
-- Locks the file, so that it is not deleted meanwhile.
with file as (
    select id, lines from files
    where id = %(file)s and key_id is not distinct from %(key)s::uuid and is_whole and deleted_at is null
      and expires_at > now() and purpose = 'batch'
    for no key update
)
insert into batches (id, key_id, file_id, endpoint, completion_window, budget_nanousd, metadata, lines, expires_at)
select %(id)s, %(key)s, file.id, %(endpoint)s, %(window)s, %(budget)s, %(metadata)s, file.lines,
       now() + make_interval(secs => %(window_s)s)
from file
returning id;

-- name: begin
update batches set status = 'in_progress', in_progress_at = now() where status = 'validating' returning id;

-- name: open
-- Batches that are under way, each with how many of its runs are.
select b.id, b.key_id, b.file_id, b.endpoint, b.status, b.ends_as, b.lines, b.fed, b.written, b.budget_nanousd as budget,
       b.output_file_id as output_file, b.error_file_id as error_file,
       b.expires_at <= now() as is_over, coalesce(k.weight, 1) as weight,
       (select count(*) from runs r where r.batch_id = b.id and r.status in ('queued', 'running')) as open
from batches b left join keys k on k.id = b.key_id
where b.status in ('in_progress', 'finalizing', 'cancelling')
order by b.id;

-- name: feed
-- A page of lines becomes runs and errors, once: by whoever finds the batch fed as far as they had read. A second line of
-- the same name is an error. What comes back are the runs that are new, or a row without one when none is; no row from
-- whoever was not the first.
with batch as (
    update batches set fed = %(last)s
    where id = %(batch)s and fed = %(before)s and status = 'in_progress'
    returning id, key_id
), page as (
    select * from unnest(%(numbers)s::int[], %(names)s::text[], %(runs)s::uuid[], %(errors)s::jsonb[]) as p (number, name, run, error)
), good as (
    insert into batch_lines (batch_id, number, custom_id, run_id)
    select batch.id, p.number, p.name, p.run from batch, page p
    where p.error is null
    order by p.number
    on conflict (batch_id, custom_id) where error is null do nothing
    returning number, run_id
), bad as (
    insert into batch_lines (batch_id, number, custom_id, error)
    select batch.id, p.number, p.name, coalesce(p.error, %(double)s) from batch, page p
    where not exists (select from good g where g.number = p.number)
), run as (
    insert into runs (id, key_id, batch_id, workflow, plan, input, options, open_steps)
    select good.run_id, batch.key_id, batch.id, r.workflow, r.plan, r.input, r.options, r.steps
    from batch, unnest(%(run_ids)s::uuid[], %(workflows)s::text[], %(plans)s::jsonb[], %(inputs)s::jsonb[], %(options)s::jsonb[],
                       %(step_counts)s::smallint[]) as r (id, workflow, plan, input, options, steps)
         join good on good.run_id = r.id
), step as (
    insert into steps (run_id, idx, goblin, task, after)
    select good.run_id, s.idx, s.goblin, s.task, array(select jsonb_array_elements_text(s.after)::smallint)
    from unnest(%(step_runs)s::uuid[], %(idxs)s::smallint[], %(goblins)s::text[], %(tasks)s::text[],
                %(afters)s::jsonb[]) as s (run, idx, goblin, task, after)
         join good on good.run_id = s.run
)
select good.run_id as run from batch left join good on true order by good.number;

-- name: lately
-- Why the last lines of a batch ended that were fed and have ended, newest first.
select coalesce(s.error ->> 'type', '') as type, coalesce(s.error -> 'details' ->> 'budget', '') as budget
from (select run_id from batch_lines where batch_id = %(batch)s and number > %(fed)s::int - %(within)s::int and run_id is not null) l
     join lateral (select id, finished_at from runs where id = l.run_id and status not in ('queued', 'running') limit 1) r on true -- one by one
     left join lateral (select error from steps where run_id = r.id and status = 'failed' order by idx limit 1) s on true
order by r.finished_at desc limit %(limit)s;

-- name: stop
-- Nothing more is fed; what it becomes in the end, and why if that is not to be expected.
update batches set status = 'finalizing', ends_as = %(ends_as)s, error = %(error)s, finalizing_at = now()
where id = %(batch)s and status = 'in_progress'
returning id;

-- name: request_cancel
-- Waits for a page that is being fed: whoever comes later feeds nothing.
update batches set status = 'cancelling', ends_as = 'cancelled', cancelling_at = now()
where id = %(batch)s and status in ('validating', 'in_progress')
returning id;

-- name: cancel_runs
-- Locked in one order, and their steps with them, until `cancel_steps` has ended the open ones.
with open as (
    select id from runs
    where batch_id = %(batch)s and status in ('queued', 'running') and cancel_requested_at is null
    order by id for no key update
)
update runs r set cancel_requested_at = now(), touched_at = now()
from open where r.id = open.id
returning r.id;

-- name: cancel_steps
-- Open steps end here, and runs with the last of them; running ones end when their workers read the request.
with step as (
    update steps set status = 'cancelled', output = null, error = null, finished_at = now()
    where run_id = any (%(runs)s) and status in ('pending', 'waiting')
    returning run_id
), closed as (
    select run_id, count(*) as steps from step group by run_id
)
update runs r
set open_steps = r.open_steps - closed.steps,
    status = case when r.open_steps = closed.steps then 'cancelled' else r.status end,
    finished_at = case when r.open_steps = closed.steps then now() end
from closed where r.id = closed.run_id;

-- name: begin_files
-- Where the results go; nobody sees the files before the batch has ended.
with batch as (
    update batches set output_file_id = %(output)s, error_file_id = %(errors)s
    where id = %(batch)s and output_file_id is null and status in ('finalizing', 'cancelling')
    returning id, key_id, output_file_id, error_file_id
)
insert into files (id, key_id, filename, purpose, is_whole, expires_at)
select f.id, batch.key_id, f.name, 'batch_output', false, 'infinity'
from batch, unnest(array[batch.output_file_id, batch.error_file_id], %(names)s::text[]) as f (id, name)
returning id;

-- name: ends
-- How the next lines behind a number have ended: at most so many, and no further one once they have so many bytes of
-- outputs and workflows.
select number, custom_id as name, error, run, status, metadata, cost, created_at, finished_at, workflow
from (
    select l.number, l.custom_id, l.error, l.run_id as run, r.status, r.options -> 'metadata' as metadata, r.cost_nanousd as cost,
           r.created_at, r.finished_at, r.workflow,
           coalesce(sum(s.size + octet_length(r.workflow)) over (order by l.number
                                                                 rows between unbounded preceding and 1 preceding), 0) as before
    from (select * from batch_lines where batch_id = %(batch)s and number > %(after)s order by number limit %(limit)s) l
         left join runs r on r.id = l.run_id
         left join lateral (select coalesce(sum(octet_length(output)), 0) as size from steps where run_id = r.id) s on true
) p
where before < %(bytes)s
order by number;

-- name: said
-- The steps of some runs, with what their calls used, and how the last one ended.
select s.run_id as run, s.idx, s.goblin, s.status, s.provider, s.model, s.output, s.error, s.cost_nanousd as cost, a.finish,
       coalesce(e.input, 0)::bigint as input, coalesce(e.cached, 0)::bigint as cached, coalesce(e.output, 0)::bigint as written,
       coalesce(e.reasoning, 0)::bigint as reasoning
from steps s
     left join lateral (select finish from attempts where run_id = s.run_id and idx = s.idx order by number desc limit 1) a on true
     left join lateral (select sum(input_tokens) as input, sum(cache_read_tokens) as cached, sum(output_tokens) as output,
                               sum(reasoning_tokens) as reasoning
                        from entries where run_id = s.run_id and idx = s.idx) e on true
where s.run_id = any (%(runs)s)
order by s.run_id, s.idx;

-- name: write
-- Results behind those that are written, once.
with batch as (
    update batches set written = %(last)s
    where id = %(batch)s and written = %(before)s and status in ('finalizing', 'cancelling')
    returning output_file_id, error_file_id
), line as (
    insert into file_lines (file_id, number, body)
    select case when l.is_good then batch.output_file_id else batch.error_file_id end, l.number, l.body
    from batch, unnest(%(numbers)s::int[], %(good)s::bool[], %(bodies)s::bytea[]) as l (number, is_good, body)
    returning file_id, octet_length(body) + 1 as bytes
)
update files f set lines = f.lines + added.lines, bytes = f.bytes + added.bytes
from (select file_id, count(*) as lines, sum(bytes) as bytes from line group by file_id) added
where f.id = added.file_id
returning f.id;

-- name: finish
-- All is written: the files are there, those that would be empty are not.
with batch as (
    select b.id, coalesce(o.lines, 0) as completed, coalesce(e.lines, 0) as failed
    from batches b left join files o on o.id = b.output_file_id left join files e on e.id = b.error_file_id
    where b.id = %(batch)s and b.status in ('finalizing', 'cancelling')
    for no key update of b
), ended as (
    update batches b
    set status = b.ends_as, ended_at = now(), completed = batch.completed, failed = batch.failed,
        output_file_id = case when batch.completed > 0 then b.output_file_id end,
        error_file_id = case when batch.failed > 0 then b.error_file_id end
    from batch where b.id = batch.id
    returning b.id, b.status, b.completed, b.failed, b.output_file_id, b.error_file_id
), whole as (
    update files f set is_whole = true, created_at = now(), expires_at = now() + make_interval(secs => %(expires_s)s)
    from ended where f.id in (ended.output_file_id, ended.error_file_id)
), empty as (
    delete from files f using batch, batches b
    where b.id = batch.id and f.id in (b.output_file_id, b.error_file_id) and f.lines = 0
)
select status, completed, failed from ended;

-- name: counts
-- How many runs of a batch have ended well, and how many lines otherwise, while it is under way.
select (select count(*) from runs where batch_id = %(batch)s and status = 'succeeded') as completed,
       (select count(*) from runs where batch_id = %(batch)s and status in ('failed', 'cancelled'))
       + (select count(*) from batch_lines where batch_id = %(batch)s and error is not null) as failed;
