-- Names the session that is going to write for these partitions, for a successor to end. A function, as `merge_batch` is:
-- to prepare a call of it locks no table, and a client may be stopped between preparing and calling.
create function announce(of_app_version text, moves staged_move[]) returns void
language sql set search_path from current
as $$
    update progress p set owner_pid = pg_backend_pid()
    from unnest(moves) m
    where p.app_version = of_app_version and p.topic = m.topic and p.partition = m.partition and p.epoch = m.epoch
        and p.owner_pid <> pg_backend_pid()
$$;
