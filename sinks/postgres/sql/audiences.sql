select audience, count(*) filter (where member) as members, count(*) as ever
from profile_audiences
group by audience
order by audience
