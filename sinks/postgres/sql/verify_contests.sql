-- Contested leaves that do not belong to whom the contest says (SEMANTICS S1).
select 'identity' as what, c.leaf as subject, c.owner as expected, coalesce(i.profile_id, 'none') as found,
    count(*) over () as total
from identity_contests c
left join identities i on i.leaf = c.leaf
where i.profile_id is distinct from c.owner
order by c.leaf
limit $1
