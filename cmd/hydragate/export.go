package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"hydragate/identity"
	"hydragate/store"
)

type exportCmd struct {
	settings `group:"Settings:"`
	Format   string `enum:"csv,jsonl," default:"" placeholder:"FORMAT" help:"csv or jsonl. Default: by the name of the file, else jsonl."`
	Output   string `short:"o" placeholder:"FILE" help:"Write to this file, which must not exist yet. Default: standard output."`
}

// Help is what export --help says more.
func (exportCmd) Help() string {
	return `Every customer with all identities, in the format that import reads: importing them into another, empty database gives the same customers with the same ids. Instances are named; create those of the same names before. Identities come out unverified there, unless import is told to trust the times of verification.

In CSV an apostrophe stands before what a spreadsheet would take for a formula, such as a phone number that begins with +; import takes it away again. JSON Lines hold every value exactly.

The file holds personal data: only its owner can read it, and the audit log tells of the export.`
}

const exportAtOnce = 500

// A bulkWriter writes customers down.
type bulkWriter interface {
	write(bulkLine) error
	flush() error
}

func (c *exportCmd) Run(ctx context.Context, con console) (err error) {
	if c.Format == "" {
		c.Format = formatLines
		if c.Output != "" {
			if c.Format, err = formatOf("", c.Output); err != nil {
				return err
			}
		}
	}
	if err := c.there(); err != nil {
		return err
	}
	s, err := openStore(ctx, &c.settings)
	if err != nil {
		return err
	}
	defer s.Close()
	out, shown := con.out, progressOn(con.err)
	if c.Output != "" {
		f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		n, err := c.export(ctx, s, f, shown)
		shown.end()
		if err = errors.Join(err, f.Close()); err != nil {
			return errors.Join(err, os.Remove(c.Output))
		}
		_, err = fmt.Fprintf(con.err, "%d customers\n", n)
		return err
	}
	_, err = c.export(ctx, s, out, shown)
	shown.end()
	return err
}

// export writes every customer, in order of id, a part at a time.
func (c *exportCmd) export(ctx context.Context, s *store.Store, out io.Writer, shown *progress) (n int, err error) {
	w := bulkWriter(newJSONWriter(out))
	if c.Format == formatCSV {
		if w, err = newCSVWriter(out); err != nil {
			return 0, err
		}
	}
	for after := ""; ; {
		records, err := s.Records(ctx, identity.DefaultTenant, after, exportAtOnce)
		if err != nil {
			return n, err
		}
		for _, r := range records {
			after = r.ID
			if err := w.write(lineOf(r)); err != nil {
				return n, err
			}
		}
		n += len(records)
		shown.show(n, 0)
		if len(records) < exportAtOnce {
			break
		}
	}
	if err := w.flush(); err != nil {
		return n, err
	}
	return n, s.Audit(ctx, identity.Event{
		TenantID: identity.DefaultTenant, Kind: "customers.exported", Actor: byCommand, Detail: map[string]string{"customers": strconv.Itoa(n), "format": c.Format},
	})
}
