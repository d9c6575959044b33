select to_jsonb(p) - 'position' - 'definitions_version'
    || jsonb_build_object(
        'leaves', (select jsonb_agg(leaf order by leaf) from identities where profile_id = p.profile_id),
        'companies', coalesce(
            (select jsonb_agg(company_id order by company_id) from profile_companies where profile_id = p.profile_id),
            '[]'),
        'audiences', coalesce(
            (select jsonb_object_agg(audience, member) from profile_audiences where profile_id = p.profile_id), '{}')
    )
from profiles p
where p.profile_id in (select profile_id from identities where leaf in ('user:' || $1, 'anon:' || $1) or leaf = $2)
-- A userId before an anonymousId of the same text.
order by p.profile_id = 'user:' || $1 desc, p.profile_id
limit 1
