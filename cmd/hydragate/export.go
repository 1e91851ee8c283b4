package main

import (
	"context"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/bulk"
)

type exportCmd struct {
	app.Settings `group:"Settings:"`
	Format       string `enum:"csv,jsonl," default:"" placeholder:"FORMAT" help:"csv or jsonl. Default: by the name of the output file, otherwise jsonl."`
	Output       string `short:"o" placeholder:"FILE" help:"File to create. Default: standard output."`
}

// Help implements kong.HelpProvider.
func (*exportCmd) Help() string {
	return `Writes every customer with all identities, in the format that hydragate import reads. Importing the
file into an empty database creates the same customers with the same ids. Create instances of the same names
first. Identities are imported as unverified unless you pass --trust-verified.

In CSV, values that a spreadsheet would read as a formula, such as phone numbers that start with +, are
preceded by an apostrophe. Import removes it. JSON Lines contain the exact values.

The file contains personal data. Only its owner can read it, and the export is recorded in the audit log.`
}

// Run exports all customers.
func (c *exportCmd) Run(ctx context.Context, con app.Console) error {
	return bulk.Export(ctx, &c.Settings, con, bulk.ExportOptions{Format: c.Format, Output: c.Output})
}
