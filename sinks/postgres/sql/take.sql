insert into progress as p (app_version, topic, partition, epoch, owner, owner_pid)
values ($1, $2, $3, 1, $4, pg_backend_pid())
on conflict (app_version, topic, partition) do update set
    epoch = p.epoch + 1,
    owner = excluded.owner,
    owner_pid = excluded.owner_pid,
    updated_at = clock_timestamp()
returning p.topic, p.partition, p.epoch, p.owner, p.next_offset, p.definitions_version, p.read, p.applied,
    p.duplicate, p.refused, p.warnings, p.source_highs, p.last_record_time, p.last_record_checksum, p.gap
