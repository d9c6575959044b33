-- Profiles and identities that contradict each other (SEMANTICS S1): each profile that a leaf belongs to has its row,
-- a leaf that belongs to another has none, and a user belongs to himself.
with wrong as (
    select 'profile' as what, i.profile_id as subject, 'a row in profiles' as expected, 'none' as found
    from identities i
    where not exists (select from profiles p where p.profile_id = i.profile_id)
    group by i.profile_id
    union all
    select 'profile', p.profile_id, 'no row in profiles, or its leaf to belong to itself',
        coalesce('a row, and a leaf that belongs to ' || i.profile_id, 'a row, and no leaf in identities')
    from profiles p
    left join identities i on i.leaf = p.profile_id
    where i.profile_id is distinct from p.profile_id
    union all
    select 'identity', leaf, leaf, profile_id
    from identities
    where profile_id <> leaf and not starts_with(leaf, 'anon:')
)
select what, subject, expected, found, count(*) over () as total
from wrong
order by subject, what
limit $1
