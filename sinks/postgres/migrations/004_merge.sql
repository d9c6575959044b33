-- Rows on their way from a worker, one type a table: merge_batch takes a whole cycle as arrays of these.
-- Their times are microseconds since 1970-01-01 UTC, which cost the worker nothing to send.

-- The time that microseconds since 1970-01-01 UTC name, exactly up to the year 9999: whole seconds, times a million,
-- are multiples of 64 and so still below 2^53 of them. Not immutable, and no SET, so that it is inlined.
create function time_of(microseconds bigint) returns timestamptz
language sql stable parallel safe
return to_timestamp(microseconds / 1000000) + (microseconds % 1000000) * interval '1 microsecond';

create type staged_move as (
    topic text,
    partition integer,
    epoch bigint,
    from_offset bigint,
    to_offset bigint,
    definitions_version bigint,
    read bigint,
    applied bigint,
    duplicate bigint,
    refused bigint,
    warnings jsonb,
    source_highs jsonb,
    last_record_time bigint,
    last_record_checksum bigint
);

create type staged_page_view as (
    message_id text collate "C",
    leaf text collate "C",
    kind text,
    event_time bigint,
    url text,
    path text,
    title text,
    referrer text,
    name text,
    properties text
);

create type staged_occurrence as (
    message_id text collate "C",
    leaf text collate "C",
    event text,
    event_time bigint,
    properties text,
    sent_properties text
);

create type staged_counters as (
    profile_id text collate "C",
    page_views bigint,
    first_seen bigint,
    last_seen bigint,
    position bigint,
    definitions_version bigint
);

create type staged_profile as (
    profile_id text collate "C",
    user_id text,
    page_views bigint,
    first_seen bigint,
    last_seen bigint,
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
    attributes text,
    position bigint,
    definitions_version bigint
);

create type staged_identity as (leaf text collate "C", profile_id text);

create type staged_contest as (leaf text collate "C", owner text, since bigint, claimants text);

create type staged_identity_act as (
    act_id text collate "C",
    leaf text,
    user_leaf text,
    act text,
    acted_at bigint,
    reason text
);

create type staged_company as (
    company_id text collate "C",
    name text,
    email text,
    phone text,
    address text,
    description text,
    employees text,
    attributes text,
    position bigint,
    definitions_version bigint
);

create type staged_member as (company_id text collate "C", leaf text collate "C", joined_at bigint);

create type staged_membership as (
    leaf text collate "C",
    audience text collate "C",
    member boolean,
    changed_at bigint,
    message_id text collate "C"
);

create type staged_audience_change as (
    leaf text collate "C",
    audience text collate "C",
    member boolean,
    event_time bigint,
    message_id text collate "C"
);

create type staged_quarantined as (
    topic text collate "C",
    partition integer,
    "offset" bigint,
    reason text,
    detail text,
    raw bytea,
    timestamp_ms bigint,
    lacks_rows boolean,
    is_again boolean
);

create type staged_redriven as (
    topic text collate "C",
    partition integer,
    "offset" bigint,
    outcome text,
    leaves_topic text,
    leaves_partition integer
);

-- Writes one cycle. Called as a statement of its own, it is the whole transaction: a worker that is stopped
-- while it sends holds no lock, since nothing runs before the last byte is here.
-- Raises TM001 when a partition is no longer the caller's, or not where he believes it to be;
-- TM002 when a row is ahead of what he writes.
-- The caller sees to it that no key is both written and gone in one batch; rows go first, and were written otherwise.
create function merge_batch(
    of_app_version text,
    moves staged_move[],
    new_page_views staged_page_view[],
    new_occurrences staged_occurrence[],
    new_counters staged_counters[],
    new_profiles staged_profile[],
    new_identities staged_identity[],
    identities_gone text[],
    profiles_gone text[],
    new_contests staged_contest[],
    contests_gone text[],
    new_identity_acts staged_identity_act[],
    new_companies staged_company[],
    new_members staged_member[],
    new_memberships staged_membership[],
    new_audience_changes staged_audience_change[],
    new_quarantined staged_quarantined[],
    new_redriven staged_redriven[]
) returns void
language plpgsql set search_path from current
as $$
declare
    held bigint;
    written bigint;
    ahead text;
begin
    -- 1. The fence: every partition is ours and stands where this batch begins. The locks are held to the end,
    --    and taken in key order.
    select count(*) into held from (
        select from progress p
        join unnest(moves) m on m.topic = p.topic and m.partition = p.partition
        where p.app_version = of_app_version and p.epoch = m.epoch
            and (p.next_offset = m.from_offset or p.next_offset is null)
        order by p.topic, p.partition
        for update of p
    ) ours;
    if held <> cardinality(moves) then
        raise exception using
            errcode = 'TM001',
            message = 'a partition has another owner, or is not where this batch begins',
            detail = (
                select string_agg(
                    format('%s/%s: expected epoch %s at %s, found epoch %s at %s', m.topic, m.partition,
                        m.epoch, m.from_offset, coalesce(p.epoch::text, 'none'), coalesce(p.next_offset::text, 'none')),
                    '; ' order by m.topic, m.partition)
                from unnest(moves) m
                left join progress p
                    on p.app_version = of_app_version and p.topic = m.topic and p.partition = m.partition
            );
    end if;

    -- 2. Rows that never change once written. The fence lets each record's rows be written once, so that they are
    --    nearly always new: to look for each of them first costs more than to do a batch again without those that
    --    are there. Keys are inserted in the order of the index.
    if cardinality(new_page_views) > 0 then
        begin
            insert into page_views
                (message_id, leaf, kind, event_time, url, path, title, referrer, name, properties)
            select message_id, leaf, kind, time_of(event_time), url, path, title, referrer, name, properties::jsonb
            from unnest(new_page_views)
            order by leaf, event_time, message_id;
        exception when unique_violation then
            insert into page_views
                (message_id, leaf, kind, event_time, url, path, title, referrer, name, properties)
            select message_id, leaf, kind, time_of(event_time), url, path, title, referrer, name, properties::jsonb
            from unnest(new_page_views)
            order by leaf, event_time, message_id
            on conflict do nothing;
        end;
    end if;
    if cardinality(new_occurrences) > 0 then
        begin
            insert into event_occurrences (message_id, leaf, event, event_time, properties, sent_properties)
            select message_id, leaf, event, time_of(event_time), properties::jsonb, sent_properties::jsonb
            from unnest(new_occurrences)
            order by leaf, event_time, message_id;
        exception when unique_violation then
            insert into event_occurrences (message_id, leaf, event, event_time, properties, sent_properties)
            select message_id, leaf, event, time_of(event_time), properties::jsonb, sent_properties::jsonb
            from unnest(new_occurrences)
            order by leaf, event_time, message_id
            on conflict do nothing;
        end;
    end if;
    if cardinality(new_audience_changes) > 0 then
        insert into audience_history (leaf, audience, member, event_time, message_id)
        select leaf, audience, member, time_of(event_time), message_id
        from unnest(new_audience_changes)
        order by leaf, audience, event_time, message_id
        on conflict do nothing;
    end if;
    if cardinality(new_redriven) > 0 then
        -- Whoever quarantines meanwhile would not see yet what is redriven here: one after the other.
        perform pg_advisory_xact_lock(hashtextextended('tidemark redrive ' || 'redriven'::regclass::oid, 0));
        with one as (
            select distinct on (topic, partition, "offset") *
            from unnest(new_redriven) with ordinality
                as n (topic, partition, "offset", outcome, leaves_topic, leaves_partition, nth)
            order by topic, partition, "offset", nth
        ), first as (
            insert into redriven (topic, partition, "offset", outcome)
            select topic, partition, "offset", outcome from one
            on conflict do nothing
            returning topic, partition, "offset"
        ), counted as (
            select leaves_topic, leaves_partition,
                count(*) filter (where outcome = 'applied') as applied,
                count(*) filter (where outcome = 'duplicate') as duplicate
            from one
            join first using (topic, partition, "offset")
            group by leaves_topic, leaves_partition
        )
        update progress p set applied = p.applied + c.applied, duplicate = p.duplicate + c.duplicate
        from counted c
        where p.app_version = of_app_version and p.topic = c.leaves_topic and p.partition = c.leaves_partition;
        delete from quarantine q using unnest(new_redriven) r
        where q.topic = r.topic and q.partition = r.partition and q."offset" = r."offset";
    end if;
    if cardinality(new_quarantined) > 0 then
        perform pg_advisory_xact_lock_shared(hashtextextended('tidemark redrive ' || 'redriven'::regclass::oid, 0));
        insert into quarantine as q (topic, partition, "offset", reason, detail, raw, record_time, lacks_rows)
        select distinct on (topic, partition, "offset")
            topic, partition, "offset", reason, detail, raw, time_of(timestamp_ms * 1000), lacks_rows
        from unnest(new_quarantined) with ordinality
            as n (topic, partition, "offset", reason, detail, raw, timestamp_ms, lacks_rows, is_again, nth)
        where not is_again and not exists (
            select from redriven r
            where r.topic = n.topic and r.partition = n.partition and r."offset" = n."offset"
        )
        order by topic, partition, "offset", nth
        on conflict do nothing;
        -- What was refused once more keeps its row, with the newest reason.
        insert into quarantine as q (topic, partition, "offset", reason, detail, raw, record_time, lacks_rows)
        select distinct on (topic, partition, "offset")
            topic, partition, "offset", reason, detail, raw, time_of(timestamp_ms * 1000), lacks_rows
        from unnest(new_quarantined) with ordinality
            as n (topic, partition, "offset", reason, detail, raw, timestamp_ms, lacks_rows, is_again, nth)
        where is_again and not exists (
            select from redriven r
            where r.topic = n.topic and r.partition = n.partition and r."offset" = n."offset"
        )
        order by topic, partition, "offset", nth desc
        on conflict (topic, partition, "offset") do update set
            reason = excluded.reason,
            detail = excluded.detail,
            lacks_rows = q.lacks_rows or excluded.lacks_rows;
    end if;
    if cardinality(new_identity_acts) > 0 then
        insert into identity_acts (act_id, leaf, user_leaf, act, acted_at, reason)
        select act_id, leaf, user_leaf, act, time_of(acted_at), reason
        from unnest(new_identity_acts)
        order by act_id
        on conflict do nothing;
    end if;

    -- 3. Rows that go. An array in a condition is looked up in key order.
    if cardinality(profiles_gone) > 0 then
        delete from profiles where profile_id = any(profiles_gone);
    end if;
    if cardinality(identities_gone) > 0 then
        delete from identities where leaf = any(identities_gone);
    end if;
    if cardinality(contests_gone) > 0 then
        delete from identity_contests where leaf = any(contests_gone);
    end if;

    -- 4. Rows that move forward by position. What was not written is either already there or ahead of us.
    if cardinality(new_counters) > 0 then
        insert into profiles as p
            (profile_id, user_id, page_views, first_seen, last_seen, position, definitions_version)
        select distinct on (profile_id)
            profile_id, case when profile_id like 'user:%' then substr(profile_id, 6) end,
            page_views, time_of(first_seen), time_of(last_seen), position, definitions_version
        from unnest(new_counters)
        order by profile_id, position desc
        on conflict (profile_id) do update set
            page_views = excluded.page_views,
            first_seen = excluded.first_seen,
            last_seen = excluded.last_seen,
            position = excluded.position
        where p.position < excluded.position;
        get diagnostics written = row_count;
        if written < cardinality(new_counters) then
            select format('%s is at %s, given %s', n.profile_id, p.position, n.position) into ahead
            from profiles p
            join (select profile_id, max(position) as position from unnest(new_counters) group by 1) n
                on n.profile_id = p.profile_id
            where p.position > n.position limit 1;
        end if;
    end if;
    if cardinality(new_profiles) > 0 and ahead is null then
        insert into profiles as p
            (profile_id, user_id, page_views, first_seen, last_seen, email, first_name, last_name, phone, gender,
            country, region, city, user_agent, os, device_name, device_type, language, resolution, ip_address,
            browser_family, browser_version, timezone, current_url, attributes, position, definitions_version)
        select distinct on (profile_id)
            profile_id, user_id, page_views, time_of(first_seen), time_of(last_seen), email, first_name, last_name,
            phone, gender, country, region, city, user_agent, os, device_name, device_type, language, resolution,
            ip_address, browser_family, browser_version, timezone, current_url, attributes::jsonb, position,
            definitions_version
        from unnest(new_profiles)
        order by profile_id, position desc, definitions_version desc
        on conflict (profile_id) do update set
            user_id = excluded.user_id,
            page_views = excluded.page_views,
            first_seen = excluded.first_seen,
            last_seen = excluded.last_seen,
            email = excluded.email,
            first_name = excluded.first_name,
            last_name = excluded.last_name,
            phone = excluded.phone,
            gender = excluded.gender,
            country = excluded.country,
            region = excluded.region,
            city = excluded.city,
            user_agent = excluded.user_agent,
            os = excluded.os,
            device_name = excluded.device_name,
            device_type = excluded.device_type,
            language = excluded.language,
            resolution = excluded.resolution,
            ip_address = excluded.ip_address,
            browser_family = excluded.browser_family,
            browser_version = excluded.browser_version,
            timezone = excluded.timezone,
            current_url = excluded.current_url,
            -- The stored value itself where equal: then its TOAST is not written again. Compared as text, since
            -- 12 and 12.0 are equal as jsonb.
            attributes = case
                when p.attributes::text = excluded.attributes::text then p.attributes else excluded.attributes
            end,
            position = excluded.position,
            definitions_version = excluded.definitions_version
        where (p.position, p.definitions_version) < (excluded.position, excluded.definitions_version);
        get diagnostics written = row_count;
        if written < cardinality(new_profiles) then
            select format('%s is at %s, given %s', n.profile_id, p.position, n.position) into ahead
            from profiles p
            join (select profile_id, max(position) as position from unnest(new_profiles) group by 1) n
                on n.profile_id = p.profile_id
            where p.position > n.position limit 1;
        end if;
    end if;
    if cardinality(new_companies) > 0 and ahead is null then
        insert into companies as c
            (company_id, name, email, phone, address, description, employees, attributes, position,
            definitions_version)
        select distinct on (company_id)
            company_id, name, email, phone, address, description, employees, attributes::jsonb, position,
            definitions_version
        from unnest(new_companies)
        order by company_id, position desc, definitions_version desc
        on conflict (company_id) do update set
            name = excluded.name,
            email = excluded.email,
            phone = excluded.phone,
            address = excluded.address,
            description = excluded.description,
            employees = excluded.employees,
            attributes = case
                when c.attributes::text = excluded.attributes::text then c.attributes else excluded.attributes
            end,
            position = excluded.position,
            definitions_version = excluded.definitions_version
        where (c.position, c.definitions_version) < (excluded.position, excluded.definitions_version);
        get diagnostics written = row_count;
        if written < cardinality(new_companies) then
            select format('%s is at %s, given %s', n.company_id, c.position, n.position) into ahead
            from companies c
            join (select company_id, max(position) as position from unnest(new_companies) group by 1) n
                on n.company_id = c.company_id
            where c.position > n.position limit 1;
        end if;
    end if;
    if ahead is not null then
        raise exception using
            errcode = 'TM002', message = 'a row is ahead of its owner''s state', detail = ahead;
    end if;

    -- 5. Rows that move forward by what they say themselves, or are said anew.
    if cardinality(new_identities) > 0 then
        insert into identities as i (leaf, profile_id)
        select distinct on (leaf) leaf, profile_id
        from unnest(new_identities) with ordinality as n (leaf, profile_id, nth)
        order by leaf, nth desc
        on conflict (leaf) do update set profile_id = excluded.profile_id
        where i.profile_id <> excluded.profile_id;
    end if;
    if cardinality(new_contests) > 0 then
        insert into identity_contests as c (leaf, owner, since, claimants)
        select distinct on (leaf) leaf, owner, time_of(since), claimants::jsonb
        from unnest(new_contests) with ordinality as n (leaf, owner, since, claimants, nth)
        order by leaf, nth desc
        on conflict (leaf) do update set
            owner = excluded.owner,
            since = excluded.since,
            claimants = excluded.claimants
        where (c.owner, c.since, c.claimants) is distinct from (excluded.owner, excluded.since, excluded.claimants);
    end if;
    if cardinality(new_members) > 0 then
        insert into company_members as m (company_id, leaf, joined_at)
        select company_id, leaf, time_of(min(joined_at))
        from unnest(new_members)
        group by company_id, leaf
        order by company_id, leaf
        on conflict (company_id, leaf) do update set joined_at = excluded.joined_at
        where excluded.joined_at < m.joined_at;
    end if;
    if cardinality(new_memberships) > 0 then
        insert into audience_memberships as m (leaf, audience, member, changed_at, message_id)
        select distinct on (leaf, audience) leaf, audience, member, time_of(changed_at), message_id
        from unnest(new_memberships)
        order by leaf, audience, changed_at desc, message_id desc
        on conflict (leaf, audience) do update set
            member = excluded.member,
            changed_at = excluded.changed_at,
            message_id = excluded.message_id
        where (m.changed_at, m.message_id) < (excluded.changed_at, excluded.message_id);
    end if;

    -- 6. Progress.
    update progress p set
        next_offset = m.to_offset,
        owner_pid = pg_backend_pid(),
        definitions_version = m.definitions_version,
        read = p.read + m.read,
        applied = p.applied + m.applied,
        duplicate = p.duplicate + m.duplicate,
        refused = p.refused + m.refused,
        warnings = case when m.warnings = '{}' then p.warnings else (
            select jsonb_object_agg(kind, n) from (
                select kind, sum(counted::bigint) as n
                from (select * from jsonb_each_text(p.warnings) union all select * from jsonb_each_text(m.warnings))
                    as each (kind, counted)
                group by kind
            ) summed
        ) end,
        source_highs = p.source_highs || m.source_highs,
        last_record_time = coalesce(time_of(m.last_record_time), p.last_record_time),
        last_record_checksum = coalesce(m.last_record_checksum, p.last_record_checksum),
        updated_at = clock_timestamp()
    from unnest(moves) m
    where p.app_version = of_app_version and p.topic = m.topic and p.partition = m.partition;
end
$$;
