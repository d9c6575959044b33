-- As `take`, for a producer that is to write the partition's changelogs: nothing where another one still may.
insert into progress as p (app_version, topic, partition, epoch, owner, owner_pid, transactional_id)
values ($1, $2, $3, 1, $4, pg_backend_pid(), $5)
on conflict (app_version, topic, partition) do update set
    epoch = p.epoch + 1,
    owner = excluded.owner,
    owner_pid = excluded.owner_pid,
    transactional_id = excluded.transactional_id,
    updated_at = clock_timestamp()
where p.transactional_id is null or p.transactional_id = excluded.transactional_id or p.transactional_id = any($6)
returning p.topic, p.partition, p.epoch, p.owner, p.next_offset, p.definitions_version, p.read, p.applied,
    p.duplicate, p.refused, p.warnings, p.source_highs, p.last_record_time, p.last_record_checksum, p.gap
