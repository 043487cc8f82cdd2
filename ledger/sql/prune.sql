-- name: runs
-- The next runs that ended long ago, with their steps, attempts, outputs and decisions. Their entries stay. Those of a
-- batch that has not ended stay, too: its results are written from them, and its budget counted. Ids sort by
-- the moment of their making, so no run made later is looked at; what somebody has locked is left to the next pass.
-- How long ago is told by the clock that wrote the ends down, not by that of whoever asks.
-- Here and below what goes is named one by one: joined to those who name it, the whole table would be read for a page.
with moment as (
    select now() - make_interval(secs => %(age)s) as ended
), old as (
    select id from runs
    where id < (select (lpad(to_hex(greatest(0, floor(extract(epoch from ended) * 1000))::bigint), 12, '0') || repeat('0', 20))::uuid
                from moment)
      and finished_at < (select ended from moment)
      and (batch_id is null or not exists (select from batches b where b.id = runs.batch_id and b.ended_at is null))
    order by id limit %(limit)s
    for update skip locked
)
delete from runs where id = any (array(select id from old))
returning id;

-- name: file_lines
-- The next lines of files that were deleted or have expired, unless a batch still reads them.
with gone as (
    delete from file_lines where ctid = any (array(
        select l.ctid from files f cross join lateral (select ctid from file_lines where file_id = f.id order by number limit %(limit)s) l
        where (f.deleted_at is not null or f.expires_at < now())
          and not exists (select from batches b where b.file_id = f.id and b.ended_at is null)
        limit %(limit)s))
    returning 1
)
select count(*) as count from gone;

-- name: files
-- Files of which nothing is left.
delete from files f
where (f.deleted_at is not null or f.expires_at < now()) and not exists (select from file_lines l where l.file_id = f.id)
returning f.id;

-- name: batch_lines
-- The next notes of what became of the lines of batches that ended long ago.
with gone as (
    delete from batch_lines where ctid = any (array(
        select l.ctid from batches b cross join lateral (select ctid from batch_lines where batch_id = b.id order by number limit %(limit)s) l
        where b.ended_at < now() - make_interval(secs => %(age)s)
        limit %(limit)s))
    returning 1
)
select count(*) as count from gone;

-- name: batches
delete from batches b
where b.ended_at < now() - make_interval(secs => %(age)s)
  and not exists (select from batch_lines l where l.batch_id = b.id)
returning b.id;
