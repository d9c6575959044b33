-- What is known of an anonymous leaf: whose it is, who claims it, and what operators did to it, the oldest first.
select
    (select profile_id from identities where leaf = $1) as profile_id,
    (select claimants from identity_contests where leaf = $1) as claimants,
    (
        select jsonb_agg(
            jsonb_build_object(
                'act_id', act_id, 'user', user_leaf, 'act', act, 'reason', reason,
                'at', (extract(epoch from acted_at) * 1000000)::bigint
            )
            order by acted_at, act_id
        )
        from identity_acts
        where leaf = $1
    ) as acts
