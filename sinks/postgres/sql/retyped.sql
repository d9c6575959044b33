-- The last definition by hand of what profiles and companies are materialized with.
select coalesce(max(version), 0)
from attribute_definitions
where source <> 'auto' and scope in ('user', 'company');
