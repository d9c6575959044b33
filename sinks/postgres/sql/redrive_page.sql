-- At least one row, and as many more of the following as have $6 bytes in all, $7 at most.
with page as (
    select topic, partition, "offset", octet_length(raw) as bytes
    from quarantine
    where ($1::text is null or reason = $1)
        and (topic, partition, "offset") > ($2::text collate "C", $3::integer, $4::bigint)
        and quarantined_at <= $5
    order by topic, partition, "offset"
    limit $7
), summed as (
    select topic, partition, "offset", sum(bytes) over (order by topic, partition, "offset") - bytes as before
    from page
)
select topic, partition, "offset", q.reason, q.detail, q.raw,
    (extract(epoch from q.record_time) * 1000)::bigint as timestamp_ms, q.lacks_rows
from summed
join quarantine q using (topic, partition, "offset")
where before < $6
order by topic, partition, "offset"
