select merge_batch(
    $1::text, $2::staged_move[], $3::staged_page_view[], $4::staged_occurrence[], $5::staged_counters[],
    $6::staged_profile[], $7::staged_identity[], $8::staged_company[], $9::staged_member[], $10::staged_membership[],
    $11::staged_audience_change[], $12::staged_quarantined[]
)
