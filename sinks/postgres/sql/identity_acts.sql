select act_id, leaf, user_leaf, act, acted_at, reason
from identity_acts
order by acted_at desc, act_id desc
limit $1
