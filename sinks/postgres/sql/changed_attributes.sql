select scope, name, type, choices from attribute_definitions where version > $1 order by scope, name
