package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/bulk"
)

type exportCmd struct {
	app.Settings `group:"Settings:"`
	Format       string `enum:"csv,jsonl," default:"" placeholder:"FORMAT" help:"csv or jsonl. Default: by the name of the file, else jsonl."`
	Output       string `short:"o" placeholder:"FILE" help:"Write to this file, which must not exist yet. Default: standard output."`
}

// Help is what export --help says more.
func (exportCmd) Help() string {
	return `Every customer with all identities, in the format that import reads: importing them into another, empty database gives the same customers with the same ids. Instances are named; create those of the same names before. Identities come out unverified there, unless import is told to trust the times of verification.

In CSV an apostrophe stands before what a spreadsheet would take for a formula, such as a phone number that begins with +; import takes it away again. JSON Lines hold every value exactly.

The file holds personal data: only its owner can read it, and the audit log tells of the export.`
}

func (c *exportCmd) Run(ctx context.Context, con app.Console) (err error) {
	if c.Format == "" {
		c.Format = bulk.FormatJSONL
		if c.Output != "" {
			if c.Format, err = bulk.DetectFormat("", c.Output); err != nil {
				return err
			}
		}
	}
	if err := c.RequireData(); err != nil {
		return err
	}
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	out, shown := con.Out, bulk.NewProgress(con.Err)
	if c.Output != "" {
		f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		n, err := bulk.Export(ctx, s, c.Format, f, shown, app.CommandActor)
		shown.Erase()
		if err = errors.Join(err, f.Close()); err != nil {
			return errors.Join(err, os.Remove(c.Output))
		}
		_, err = fmt.Fprintf(con.Err, "%d customers\n", n)
		return err
	}
	_, err = bulk.Export(ctx, s, c.Format, out, shown, app.CommandActor)
	shown.Erase()
	return err
}
