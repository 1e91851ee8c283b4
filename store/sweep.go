package store

import (
	"context"
	"fmt"
)

// Sweep removes replaced secrets once they end, idempotency keys after a day, counted
// failures after two days, what would undo a merge after 30 days, and receipts, settled
// deliveries and what became of invites after 90. Messages stay: their keys are what
// tells a repeated delivery.
func (s *Store) Sweep(ctx context.Context) (int64, error) {
	const day = 24 * 60 * 60
	var total int64
	for _, q := range []string{
		`delete from idempotency_keys where created_at < ` + s.d.in(-day),
		`delete from retired_secrets where until <= ` + s.d.now,
		`delete from claim_failures where at < ` + s.d.in(-2*day),
		`delete from invites where expires_at < ` + s.d.in(-90*day),
		`delete from receipts where at < ` + s.d.in(-90*day),
		`delete from deliveries where status = 'delivered' and settled_at < ` + s.d.in(-90*day),
		`delete from merged_customers where id in (select customer_id from customer_merges where merged_at < ` + s.d.in(-30*day) + `)`,
		`delete from merged_identities where customer_id in (select customer_id from customer_merges where merged_at < ` + s.d.in(-30*day) + `)`,
	} {
		n, err := s.db.Exec(ctx, q)
		if err != nil {
			return total, fmt.Errorf("sweep: %w", err)
		}
		total += n
	}
	return total, nil
}
