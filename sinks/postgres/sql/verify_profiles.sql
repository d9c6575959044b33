-- Counters of profiles that are not what the page views of their leaves add up to (SEMANTICS S7).
with of_leaves as (
    select leaf, count(*) as page_views, max(event_time) as last_seen
    from page_views
    where kind = 'page'
    group by leaf
), recounted as (
    select i.profile_id, sum(l.page_views)::bigint as page_views, max(l.last_seen) as last_seen
    from of_leaves l
    join identities i on i.leaf = l.leaf
    group by i.profile_id
)
select each.what, p.profile_id as subject, each.expected, each.found, count(*) over () as total
from profiles p
left join recounted r on r.profile_id = p.profile_id
cross join lateral (values
    ('page_views', coalesce(r.page_views, 0)::text, p.page_views::text),
    ('last_seen', coalesce(to_char(r.last_seen at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'none'),
        coalesce(to_char(p.last_seen at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'none'))
) as each (what, expected, found)
where (p.page_views <> coalesce(r.page_views, 0) or p.last_seen is distinct from r.last_seen)
    and each.expected <> each.found
order by p.profile_id, each.what desc
limit $1
