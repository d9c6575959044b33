create view profile_page_views as
select i.profile_id, v.message_id, v.leaf, v.kind, v.event_time, v.url, v.path, v.title, v.referrer, v.name, v.properties
from page_views v
join identities i on i.leaf = v.leaf;

create view profile_events as
select i.profile_id, o.message_id, o.leaf, o.event, o.event_time, o.properties, o.sent_properties
from event_occurrences o
join identities i on i.leaf = o.leaf;

create view profile_companies as
select distinct i.profile_id, m.company_id
from company_members m
join identities i on i.leaf = m.leaf;

-- Across a profile's leaves the newest membership wins (SEMANTICS S10).
create view profile_audiences as
select distinct on (i.profile_id, m.audience) i.profile_id, m.audience, m.member
from audience_memberships m
join identities i on i.leaf = m.leaf
order by i.profile_id, m.audience, m.changed_at desc, m.message_id desc;
