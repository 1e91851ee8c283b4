package bulk

import (
	"context"
	"io"
	"strconv"

	"hydragate/identity"
	"hydragate/store"
)

const exportBatchSize = 500

// A lineWriter writes customers down.
type lineWriter interface {
	write(customerLine) error
	flush() error
}

// Export writes all customers to out, in order of ID, in batches. It returns
// their number, and records the export in the audit log in the name of by.
func Export(ctx context.Context, s *store.Store, format string, out io.Writer, shown *progress, by identity.Actor) (n int, err error) {
	w := lineWriter(newJSONLWriter(out))
	if format == FormatCSV {
		if w, err = newCSVWriter(out); err != nil {
			return 0, err
		}
	}
	for after := ""; ; {
		records, err := s.Records(ctx, identity.DefaultTenant, after, exportBatchSize)
		if err != nil {
			return n, err
		}
		for _, r := range records {
			after = r.ID
			if err := w.write(newCustomerLine(r)); err != nil {
				return n, err
			}
		}
		n += len(records)
		shown.update(n, 0)
		if len(records) < exportBatchSize {
			break
		}
	}
	if err := w.flush(); err != nil {
		return n, err
	}
	return n, s.Audit(ctx, identity.Event{
		TenantID: identity.DefaultTenant, Kind: "customers.exported", Actor: by, Detail: map[string]string{"customers": strconv.Itoa(n), "format": format},
	})
}
