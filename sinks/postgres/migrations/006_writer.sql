-- Who may write the changelogs of a partition with state: the transactional id of its owner's producer. Null where nobody
-- may, as its owner has let go of it. Until now each partition had an id of its own, which its next owner has to fence.
alter table progress add column transactional_id text;
update progress set transactional_id = topic || '-' || partition;
