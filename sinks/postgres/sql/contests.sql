select leaf, owner, since, claimants
from identity_contests
order by since desc, leaf
limit $1
