-- One record a reason, the first that came.
select distinct on (reason) reason, detail, raw
from quarantine
order by reason, topic, partition, "offset"
