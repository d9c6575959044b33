select r.outcome, q.reason, count(*)
from unnest($1::text[], $2::integer[], $3::bigint[]) as s (topic, partition, "offset")
left join redriven r using (topic, partition, "offset")
left join quarantine q using (topic, partition, "offset")
group by 1, 2
order by 1, 2
