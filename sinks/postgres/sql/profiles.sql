select profile_id, email, first_name, last_name, page_views, first_seen, last_seen, attributes
from profiles
order by page_views desc, profile_id
limit $1
