-- name: keep
insert into obstacles (fingerprint, reasons) values (%(fingerprint)s, %(reasons)s) on conflict do nothing;
