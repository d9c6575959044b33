-- Ends the session that writes for a partition's owner, if it holds rows of progress. The lock is asked for, since
-- the process id may belong to another session by now.
select pg_terminate_backend(p.owner_pid)
from progress p
where p.app_version = $1 and p.topic = $2 and p.partition = $3 and p.owner_pid <> pg_backend_pid()
    and exists (
        select from pg_locks l
        where l.pid = p.owner_pid and l.granted and l.relation = 'progress'::regclass
            and l.mode in ('RowShareLock', 'RowExclusiveLock')
    )
