insert into event_definitions (name, version)
select name, $2 from unnest($1::text[]) as wanted (name)
order by name
on conflict do nothing
