-- name: lines
-- Lines of a file that nobody can see yet, as they arrive.
copy file_lines (file_id, number, body) from stdin (format binary);

-- name: create
-- The file of lines that were copied in the same transaction.
insert into files (id, key_id, filename, purpose, bytes, lines, is_whole, expires_at)
values (%(id)s, %(key)s, %(filename)s, 'batch', %(bytes)s, %(lines)s, true, now() + make_interval(secs => %(expires_s)s));

-- name: page
-- The next lines behind a number: at most so many, and no further one once they have so many bytes.
select number, body
from (select number, body, sum(octet_length(body)) over (order by number) - octet_length(body) as before
      from (select number, body from file_lines where file_id = %(file)s and number > %(after)s order by number limit %(limit)s) l) p
where before < %(bytes)s
order by number;

-- name: delete
-- Nobody sees it from now on; its lines go by and by. Not while a batch still reads them.
update files f set deleted_at = now()
where f.id = %(id)s and f.is_whole and f.deleted_at is null and f.key_id is not distinct from %(key)s::uuid
  and not exists (select from batches b where b.file_id = f.id
                  and b.status in ('validating', 'in_progress', 'finalizing', 'cancelling'))
returning f.id;
