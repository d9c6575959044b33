insert into attribute_definitions as d (scope, name, type, choices, source, version)
values ($1, $2, $3, $4, $5, $6)
on conflict (scope, name) do update set
    type = excluded.type, choices = excluded.choices, source = excluded.source, version = excluded.version
where (d.type, d.choices, d.source) is distinct from (excluded.type, excluded.choices, excluded.source)
