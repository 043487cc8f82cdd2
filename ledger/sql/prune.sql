-- name: runs
-- The next runs that ended long ago, with their steps, attempts, outputs and decisions. Their entries stay. Ids sort by
-- the moment of their making, so no run made later is looked at; what somebody has locked is left to the next pass.
with old as (
    select id from runs
    where id < %(before)s and finished_at < %(moment)s
    order by id limit %(limit)s
    for update skip locked
)
delete from runs using old where runs.id = old.id
returning runs.id;
