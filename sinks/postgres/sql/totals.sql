select
    (select count(*) from profiles) as profiles,
    (select count(*) from profiles where user_id is not null) as users,
    (select count(*) from identities where leaf <> profile_id) as recognised,
    (select count(*) from page_views where kind = 'page') as pages,
    (select count(*) from event_occurrences) as occurrences,
    (select max(updated_at) from progress where app_version = $1) as last_commit
