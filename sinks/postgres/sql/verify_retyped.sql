-- Partitions of which rows are still to be made again after a type was changed.
select count(*) from progress where app_version = $1 and topic = any ($2) and definitions_version < $3
