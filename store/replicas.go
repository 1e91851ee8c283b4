package store

import (
	"context"
	"fmt"
	"time"

	"hydragate/gateway"
	"hydragate/store/sqldb"
)

// replicaRetention is how long the row of a gateway that was killed is kept.
const replicaRetention = daySeconds

// TouchReplica implements gateway.ReplicaStore. A gateway that was killed before r started is not
// returned, because it has not been seen since.
func (s *Store) TouchReplica(ctx context.Context, r gateway.Replica) (others []gateway.Replica, err error) {
	err = s.db.Batch(ctx, []sqldb.Statement{
		{
			Query: `
			insert into replicas (holder, code_store) values ($1, $2)
			on conflict (holder) do update set code_store = excluded.code_store, seen_at = ` + s.dialect.Now,
			Args: []any{r.Holder, r.CodeStore},
		},
		{Query: `delete from replicas where seen_at < ` + s.dialect.NowPlus(-replicaRetention)},
		{
			Query: `
			select o.holder, o.code_store from replicas o
			where o.holder <> $1 and o.seen_at > (select m.started_at from replicas m where m.holder = $1)
				and o.seen_at > ` + s.dialect.NowPlus(-int(gateway.ReplicaTimeout/time.Second)) + `
			order by o.holder`, Args: []any{r.Holder},
			Read: sqldb.ScanInto(&others, scanReplica),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("record replica: %w", err)
	}
	return others, nil
}

// Replicas returns the gateways that were seen within the last gateway.ReplicaTimeout.
func (s *Store) Replicas(ctx context.Context) ([]gateway.Replica, error) {
	rs, err := s.db.Query(ctx, `
		select holder, code_store from replicas
		where seen_at > `+s.dialect.NowPlus(-int(gateway.ReplicaTimeout/time.Second))+` order by holder`)
	replicas, err := sqldb.ScanAll(rs, err, scanReplica)
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	return replicas, nil
}

func scanReplica(sc sqldb.ScanFunc) (r gateway.Replica, err error) {
	err = sc(&r.Holder, &r.CodeStore)
	return r, err
}

// RemoveReplica implements gateway.ReplicaStore.
func (s *Store) RemoveReplica(ctx context.Context, holder string) error {
	_, err := s.db.Exec(ctx, `delete from replicas where holder = $1`, holder)
	return err
}
