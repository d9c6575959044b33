select coalesce(sum(read), 0)::bigint as read, coalesce(sum(applied), 0)::bigint as applied,
    coalesce(sum(duplicate), 0)::bigint as duplicate, coalesce(sum(gap), 0)::bigint as gap
from progress
where app_version = $1
