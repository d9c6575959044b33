-- Anonymous leaves that a user claims and does not own: contested ones, and those an operator took from him.
select leaf from identity_contests where claimants @> jsonb_build_array(jsonb_build_object('user', $1::text))
union
select leaf from identity_acts where user_leaf = $1
order by leaf
