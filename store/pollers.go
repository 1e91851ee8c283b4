package store

import (
	"context"
	"time"

	"hydragate/gateway"
)

// TakePoll implements gateway.PollStore.
func (s *Store) TakePoll(ctx context.Context, tenant, endpoint, holder string) (epoch int64, cursor string, ok bool, err error) {
	rs, err := s.db.Query(ctx, `
		update endpoints set poll_until = `+s.d.in(int(gateway.PollLease/time.Second))+`,
			poll_epoch = case when poll_holder = $3 then poll_epoch else poll_epoch + 1 end, poll_holder = $3
		where tenant_id = $1 and id = $2 and (poll_holder = $3 or poll_until <= `+s.d.now+`)
		returning poll_epoch, poll_cursor`, tenant, endpoint, holder)
	_, err = one(rs, err, func(sc scan) (struct{}, error) { return struct{}{}, sc(&epoch, &cursor) })
	if noRows(err) {
		return 0, "", false, nil
	}
	return epoch, cursor, err == nil, err
}

// FreePoll implements gateway.PollStore.
func (s *Store) FreePoll(ctx context.Context, tenant, endpoint, holder string, epoch int64) error {
	_, err := s.db.Exec(ctx, `
		update endpoints set poll_until = `+s.d.now+`, poll_holder = ''
		where tenant_id = $1 and id = $2 and poll_holder = $3 and poll_epoch = $4`, tenant, endpoint, holder, epoch)
	return err
}
