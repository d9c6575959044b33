select kind, sum(counted::bigint)::bigint
from progress, jsonb_each_text(warnings) as each (kind, counted)
where app_version = $1
group by kind
order by kind
