-- Keys compare as bytes (COLLATE "C"): the same order on every server, and the fastest.

-- Public tables. Their names and columns are the interface (SEMANTICS, "Postgres: the public tables");
-- position and definitions_version are bookkeeping: a row only moves forward by them.

create table profiles (
    profile_id text collate "C" primary key,
    user_id text collate "C",
    email text,
    first_name text,
    last_name text,
    phone text,
    gender text,
    country text,
    region text,
    city text,
    user_agent text,
    os text,
    device_name text,
    device_type text,
    language text,
    resolution text,
    ip_address text,
    browser_family text,
    browser_version text,
    timezone text,
    current_url text,
    page_views bigint not null default 0,
    first_seen timestamptz,
    last_seen timestamptz,
    attributes jsonb not null default '{}',
    position bigint not null,
    definitions_version bigint not null
)
-- Most writes change counters only: with a fifth of each page free and no index on what changes all the time,
-- they stay on their page (heap-only tuples) and touch no index.
with (fillfactor = 80);

create table identities (
    leaf text collate "C" primary key,
    profile_id text collate "C" not null
);
create index identities_profile_id on identities (profile_id);

-- Anonymous leaves that several users claim (SEMANTICS S1).
create table identity_contests (
    leaf text collate "C" primary key,
    -- The user leaf of the earliest claim, and that claim's event time.
    owner text collate "C" not null,
    since timestamptz not null,
    -- [{"user": leaf, "at": ISO 8601 in UTC with microseconds, "message_id": text}, ...], the earliest first.
    claimants jsonb not null
);

-- One index keeps rows unique and serves the timeline of a leaf; it costs more to keep than the table. A range of time
-- is found by the month's partition, and in it by a BRIN index, which costs nothing, since rows arrive about in time.
create table page_views (
    message_id text collate "C" not null,
    leaf text collate "C" not null,
    kind text not null check (kind in ('page', 'screen')),
    event_time timestamptz not null,
    url text,
    path text,
    title text,
    referrer text,
    name text,
    properties jsonb not null,
    primary key (leaf, event_time, message_id)
) partition by range (event_time);
create index page_views_time on page_views using brin (event_time);

create table event_occurrences (
    message_id text collate "C" not null,
    leaf text collate "C" not null,
    event text collate "C" not null,
    event_time timestamptz not null,
    properties jsonb not null,
    sent_properties jsonb,
    primary key (leaf, event_time, message_id)
) partition by range (event_time);
create index event_occurrences_time on event_occurrences using brin (event_time);

create table companies (
    company_id text collate "C" primary key,
    name text,
    email text,
    phone text,
    address text,
    description text,
    employees text,
    attributes jsonb not null default '{}',
    position bigint not null,
    definitions_version bigint not null
)
with (fillfactor = 80);

create table company_members (
    company_id text collate "C" not null,
    leaf text collate "C" not null,
    joined_at timestamptz not null,
    primary key (company_id, leaf)
);
create index company_members_leaf on company_members (leaf);

create table audience_memberships (
    leaf text collate "C" not null,
    audience text collate "C" not null,
    member boolean not null,
    changed_at timestamptz not null,
    -- Breaks a tie of changed_at: newest wins by (event time, messageId).
    message_id text collate "C" not null,
    primary key (leaf, audience)
);
create index audience_memberships_audience on audience_memberships (audience, member);

create table audience_history (
    leaf text collate "C" not null,
    audience text collate "C" not null,
    member boolean not null,
    event_time timestamptz not null,
    message_id text collate "C" not null,
    primary key (leaf, audience, event_time, message_id)
);

create table attribute_definitions (
    scope text collate "C" not null,
    name text collate "C" not null,
    type text not null check (
        type in ('string', 'number', 'integer', 'boolean', 'datetime', 'fixed_choice', 'multiple_choice')
    ),
    choices jsonb,
    source text not null,
    created_at timestamptz not null default now(),
    -- The version that definitions_version had reached with the last change of this row.
    version bigint not null,
    primary key (scope, name)
);
create index attribute_definitions_version on attribute_definitions (version);

create table event_definitions (
    name text collate "C" primary key,
    created_at timestamptz not null default now(),
    version bigint not null
);
create index event_definitions_version on event_definitions (version);

create table quarantine (
    topic text collate "C" not null,
    partition integer not null,
    "offset" bigint not null,
    reason text not null,
    detail text not null,
    raw bytea not null,
    -- Kafka's time of the source record.
    record_time timestamptz not null,
    -- The state has the message, only rows of it are missing.
    lacks_rows boolean not null default false,
    quarantined_at timestamptz not null default now(),
    primary key (topic, partition, "offset")
);

-- Bookkeeping.

-- Source records that came out of the quarantine. Kept for good: a late repetition of the refusal must not bring the
-- row back, nor another redrive be counted.
create table redriven (
    topic text collate "C" not null,
    partition integer not null,
    "offset" bigint not null,
    outcome text not null check (outcome in ('applied', 'duplicate')),
    redriven_at timestamptz not null default now(),
    primary key (topic, partition, "offset")
);

-- What operators did to pairs of leaves, for the record: the state of the anonymous leaf is what decides.
create table identity_acts (
    act_id text collate "C" primary key,
    leaf text collate "C" not null,
    user_leaf text collate "C" not null,
    act text not null check (act in ('unclaim', 'allow')),
    acted_at timestamptz not null,
    reason text not null
);

create table definitions_version (
    -- One row.
    only_row boolean primary key default true check (only_row),
    version bigint not null
);
insert into definitions_version (version) values (0);

create table progress (
    app_version text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null,
    -- Grows with each takeover; a writer with a smaller one is fenced.
    epoch bigint not null,
    owner text not null,
    -- The backend that writes for the owner: whom a successor ends when it is stuck in a transaction.
    owner_pid integer not null,
    -- Null until the first commit.
    next_offset bigint,
    definitions_version bigint not null default 0,
    read bigint not null default 0,
    applied bigint not null default 0,
    duplicate bigint not null default 0,
    refused bigint not null default 0,
    warnings jsonb not null default '{}',
    source_highs jsonb not null default '{}',
    last_record_time timestamptz,
    last_record_checksum bigint,
    updated_at timestamptz not null default now(),
    primary key (app_version, topic, partition)
)
-- Written by every cycle: half of each page is free for the next versions of its rows.
with (fillfactor = 50);
