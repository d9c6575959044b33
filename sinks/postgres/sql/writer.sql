-- Who may write a partition's changelogs, and whether his session is there still.
select p.transactional_id, exists (select from pg_stat_activity a where a.pid = p.owner_pid) as is_connected
from progress p
where p.app_version = $1 and p.topic = $2 and p.partition = $3 and p.transactional_id is not null
