-- Moves a partition past what its topic has deleted, and counts that: both or neither.
update progress p set next_offset = $6, gap = p.gap + ($6 - $5), updated_at = clock_timestamp()
where p.app_version = $1 and p.topic = $2 and p.partition = $3 and p.epoch = $4 and p.next_offset = $5
