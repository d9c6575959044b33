insert into attribute_definitions (scope, name, type, source, version)
select scope, name, 'string', 'auto', $3
from unnest($1::text[], $2::text[]) as wanted (scope, name)
order by scope, name
on conflict do nothing
