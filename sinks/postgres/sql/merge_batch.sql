select merge_batch(
    $1::text, $2::staged_move[], $3::staged_page_view[], $4::staged_occurrence[], $5::staged_counters[],
    $6::staged_profile[], $7::staged_identity[], $8::text[], $9::text[], $10::staged_contest[], $11::text[],
    $12::staged_identity_act[], $13::staged_company[], $14::staged_member[], $15::staged_membership[],
    $16::staged_audience_change[], $17::staged_quarantined[], $18::staged_redriven[]
)
