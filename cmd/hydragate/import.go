package main

import (
	"context"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/bulk"
)

type importCmd struct {
	app.Settings  `group:"Settings:"`
	File          string `arg:"" help:"CSV or JSON Lines file of customers, or - for standard input."`
	Format        string `enum:"csv,jsonl," default:"" placeholder:"FORMAT" help:"csv or jsonl. Default: by the name of the file."`
	DryRun        bool   `name:"dry-run" help:"Report what would happen, and change nothing."`
	Errors        string `placeholder:"FILE" help:"Write the lines that failed to this CSV file, with the reasons."`
	TrustVerified string `name:"trust-verified" placeholder:"REASON" help:"Import identities that have verified_at as verified, with this reason in the audit log. Default: identities are unverified until they are claimed."`
}

// Help implements kong.HelpProvider.
func (*importCmd) Help() string {
	return `Each line is a customer with identities. An identity is an account that the customer writes from.

JSON Lines, one object on each line:
  {"email": "steve@example.com", "first_name": "Steve", "identities": [{"channel": "telegram", "external_id": "12345"}]}

CSV, separated by commas, semicolons or tabs. The first line names the columns, in any order:
  email,first_name,telegram,sms
  steve@example.com,Steve,12345,+61400111222

Fields of a customer: id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata
(a JSON object), fk_id, fk_user_id, source, context.

Fields of an identity: channel, external_id, instance (id or name; default: all instances), display_name,
username, role_override (owner), metadata (in CSV: identity_metadata), verified_at, avatar_url, info_url,
page_url.

In CSV a line has one identity in channel and external_id, and one more in each of the columns telegram, sms,
slack and whatsapp. A customer may have several lines.

Customers are matched by id, then by email, then by fk_id, then by an identity. A customer that does not exist
is created. Empty fields and existing identities are left unchanged. You can import a file again, also after
an interruption; nothing is duplicated.

Lines that fail are reported with their numbers. The other lines are imported, and the exit status is 1.`
}

// Run imports a file of customers.
func (c *importCmd) Run(ctx context.Context, con app.Console) error {
	return bulk.Import(ctx, &c.Settings, con, bulk.ImportOptions{
		File: c.File, Format: c.Format, ErrorsFile: c.Errors, DryRun: c.DryRun, TrustVerified: c.TrustVerified,
	})
}
