select c.company_id, c.name, c.employees, count(distinct i.profile_id) as members
from companies c
left join company_members m on m.company_id = c.company_id
left join identities i on i.leaf = m.leaf
group by c.company_id
order by members desc, c.company_id
limit $1
