package store

import "github.com/jackc/pgx/v5"

// planned asks the engine to plan a statement anew for the values of each call. A plan
// for any value at all does not know how many rows begin with the text looked for, and
// would walk through a whole table for a name that nobody has.
func (s *Store) planned(args []any) []any {
	if s.d.name != "postgres" {
		return args
	}
	return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
}
