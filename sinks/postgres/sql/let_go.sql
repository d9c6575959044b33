-- Says that these producers write the changelogs of these partitions no more.
update progress p set transactional_id = null
from unnest($3::text[], $4::int[]) as gone (topic, partition)
where p.app_version = $1 and p.transactional_id = any($2) and p.topic = gone.topic and p.partition = gone.partition
