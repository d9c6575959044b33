select scope, name, type, choices, source from attribute_definitions order by scope, name
