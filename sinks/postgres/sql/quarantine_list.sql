select topic, partition, "offset", reason, detail, octet_length(raw), quarantined_at
from quarantine
where $1::text is null or reason = $1
order by quarantined_at desc, topic, partition, "offset" desc
limit $2
