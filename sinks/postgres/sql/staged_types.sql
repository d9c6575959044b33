-- The types that rows are staged in, but for those with fields other than text, bigint and boolean: the array's OID,
-- and the composite's name, OID and fields' types.
select t.typarray, t.typname::text, t.oid, array_agg(a.atttypid order by a.attnum)
from pg_type t
join pg_attribute a on a.attrelid = t.typrelid
where t.typnamespace = current_schema()::regnamespace and t.typname like 'staged\_%' and t.typtype = 'c'
group by t.oid
having bool_and(a.atttypid in ('text'::regtype, 'bigint'::regtype, 'boolean'::regtype))
