-- What every peer writes. The same columns, keys, indexes and statistics as Tidemark's own tables have, less the columns
-- that nothing of the load fills, and less partitioning by month.
create schema peer;
set search_path to peer;

create table page_views (
    message_id text collate "C" not null,
    leaf text collate "C" not null,
    event_time timestamptz not null,
    url text,
    path text,
    title text,
    referrer text,
    name text,
    properties jsonb not null,
    primary key (leaf, event_time, message_id)
);
create index page_views_time on page_views using brin (event_time);
alter table page_views alter properties set statistics 0;

create table event_occurrences (
    message_id text collate "C" not null,
    leaf text collate "C" not null,
    event text collate "C" not null,
    event_time timestamptz not null,
    properties jsonb not null,
    primary key (leaf, event_time, message_id)
);
create index event_occurrences_time on event_occurrences using brin (event_time);
alter table event_occurrences alter properties set statistics 0;

create table profiles (
    profile_id text collate "C" primary key,
    user_id text collate "C",
    email text,
    page_views bigint not null default 0,
    first_seen timestamptz,
    last_seen timestamptz,
    attributes jsonb not null default '{}',
    -- Event time of the identify call that set the attributes last; only the peer without a state store needs it.
    identified_at timestamptz
)
with (fillfactor = 80);

-- How far each partition of identities was applied, for the peer that keeps it in the same transaction as its rows.
create table positions (
    partition integer primary key,
    next_offset bigint not null
);
