-- Columns of the tables of this schema, views left out, with their types.
select c.relname as table_name, a.attname as column_name, format_type(a.atttypid, null) as type
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
    and c.relname = any ($1)
