-- page_views and event_occurrences are partitioned by month of event_time, from 2015 up to 2100.
-- What is older, and what is later, has one partition each: they bound the number of partitions to 1,022 a table
-- whatever times are sent, and leave no time without a place. There is no DEFAULT partition: every
-- attachment would lock and scan it.
create table page_views_ancient partition of page_views
    for values from (minvalue) to ('2015-01-01T00:00:00Z');
create table page_views_future partition of page_views
    for values from ('2100-01-01T00:00:00Z') to (maxvalue);
create table event_occurrences_ancient partition of event_occurrences
    for values from (minvalue) to ('2015-01-01T00:00:00Z');
create table event_occurrences_future partition of event_occurrences
    for values from ('2100-01-01T00:00:00Z') to (maxvalue);

-- No statistics of whole JSON documents: no plan gains by them, and they take half of what ANALYZE costs.
alter table page_views alter properties set statistics 0;
alter table event_occurrences alter properties set statistics 0, alter sent_properties set statistics 0;

-- Makes the partition of one month, and tells whether it was missing. It is made as a plain table that is then
-- attached, since CREATE TABLE ... PARTITION OF would lock the parent against every writer and reader.
create function attach_month(parent regclass, month date) returns boolean
language plpgsql set search_path from current
as $$
declare
    bare name := (select relname from pg_class where oid = parent);
    child name := format('%s_%s', bare, to_char(month, 'YYYY_MM'));
    json_column name;
begin
    perform pg_advisory_xact_lock(hashtextextended('tidemark partitions ' || parent::oid, 0));
    if exists (select from pg_inherits where inhparent = parent and inhrelid = to_regclass(quote_ident(child))) then
        return false;
    end if;
    execute format('create table %I (like %I including all)', child, bare);
    -- LIKE does not copy this.
    for json_column in
        select attname from pg_attribute where attrelid = parent and atttypid = 'jsonb'::regtype and not attisdropped
    loop
        execute format('alter table %I alter %I set statistics 0', child, json_column);
    end loop;
    execute format(
        'alter table %I attach partition %I for values from (%L) to (%L)',
        bare, child,
        month::timestamp at time zone 'UTC', (month + interval '1 month')::timestamp at time zone 'UTC'
    );
    return true;
end
$$;
