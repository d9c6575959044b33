update quarantine q set reason = n.reason, detail = n.detail
from unnest($1::staged_quarantined[]) n
where q.topic = n.topic and q.partition = n.partition and q."offset" = n."offset"
