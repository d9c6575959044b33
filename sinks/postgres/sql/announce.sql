-- Names the session that is going to write for these partitions, for a successor to end.
update progress p set owner_pid = pg_backend_pid()
from unnest($2::staged_move[]) m
where p.app_version = $1 and p.topic = m.topic and p.partition = m.partition and p.epoch = m.epoch
    and p.owner_pid <> pg_backend_pid()
