package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"hydragate/cmd/hydragate/app"
	"hydragate/identity"
	"hydragate/store"
)

// ExportOptions are the options of Export.
type ExportOptions struct {
	Format string // FormatCSV or FormatJSONL; if empty, the name of Output decides, or else FormatJSONL
	Output string // file to create; standard output if empty
}

// Export writes all customers to a file that only its owner can read, or to con.Out. It removes
// the file if the export fails.
func Export(ctx context.Context, s *app.Settings, con app.Console, o ExportOptions) (err error) {
	format := o.Format
	switch {
	case o.Output != "":
		if format, err = detectFormat(o.Format, o.Output); err != nil {
			return err
		}
	case format == "":
		format = FormatJSONL
	}
	st, err := app.OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer st.Close()
	p := newProgress(con.Err)
	defer p.erase()
	written := func(n int) { p.update(n, 0) }
	if o.Output == "" {
		_, err := Write(ctx, st, con.Out, format, written)
		return err
	}
	f, err := os.OpenFile(o.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("--output: %s exists already: choose another name", o.Output)
	}
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	n, err := Write(ctx, st, f, format, written)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(o.Output))
	}
	p.erase()
	_, err = fmt.Fprintf(con.Err, "%d customers exported\n", n)
	return err
}

// exportBatchSize is the number of customers that are read in one query.
const exportBatchSize = 500

// A lineWriter writes customers in one of the formats.
type lineWriter interface {
	write(customerLine) error
	flush() error
}

func newWriter(out io.Writer, format string) (lineWriter, error) {
	if format == FormatCSV {
		return newCSVWriter(out)
	}
	return newJSONLWriter(out), nil
}

// Write writes all customers to out in order of their ids and records the export in the audit
// log. It returns the number of customers. It calls progress with that number after each batch.
func Write(
	ctx context.Context, st *store.Store, out io.Writer, format string, progress func(n int),
) (n int, err error) {
	w, err := newWriter(out, format)
	if err != nil {
		return 0, err
	}
	for after := ""; ; {
		records, err := st.Records(ctx, identity.DefaultTenant, after, exportBatchSize)
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
		progress(n)
		if len(records) < exportBatchSize {
			break
		}
	}
	if err := w.flush(); err != nil {
		return n, err
	}
	return n, st.Audit(ctx, identity.Event{
		TenantID: identity.DefaultTenant, Kind: "customers.exported", Actor: app.CommandActor,
		Detail: map[string]string{"customers": strconv.Itoa(n), "format": format},
	})
}
