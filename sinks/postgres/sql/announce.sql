select announce($1::text, $2::staged_move[])
