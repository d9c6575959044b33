select topic, partition, epoch, owner, next_offset, definitions_version, read, applied, duplicate, refused, warnings,
    source_highs, last_record_time, last_record_checksum, gap
from progress
where app_version = $1
order by topic, partition
