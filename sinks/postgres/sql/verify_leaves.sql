-- Leaves that rows speak of and identities does not know (SEMANTICS S1).
with named as (
    select leaf, 'page_views' as what from page_views
    union
    select leaf, 'event_occurrences' from event_occurrences
    union
    select leaf, 'company_members' from company_members
    union
    select leaf, 'audience_memberships' from audience_memberships
    union
    select leaf, 'audience_history' from audience_history
)
select n.what, n.leaf as subject, 'a row in identities' as expected, 'none' as found, count(*) over () as total
from named n
left join identities i on i.leaf = n.leaf
where i.leaf is null
order by n.leaf, n.what
limit $1
