-- Of these partitions, those that none of these producers may write the changelogs of any more.
select mine.topic, mine.partition
from unnest($3::text[], $4::int[]) as mine (topic, partition)
where not exists (
    select from progress p
    where p.app_version = $1 and p.transactional_id = any($2) and p.topic = mine.topic and p.partition = mine.partition
)
order by mine.topic, mine.partition
