select name from event_definitions where version > $1 order by name
