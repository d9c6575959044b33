select event, count(*) as occurrences, count(distinct leaf) as leaves, max(event_time) as last
from event_occurrences
group by event
order by occurrences desc, event
limit $1
