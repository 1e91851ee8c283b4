package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/bulk"
	"hydragate/identity"
)

type importCmd struct {
	app.Settings  `group:"Settings:"`
	File          string `arg:"" help:"File of customers, CSV or JSON Lines, or - for standard input."`
	Format        string `enum:"csv,jsonl," default:"" placeholder:"FORMAT" help:"csv or jsonl. Default: by the name of the file."`
	DryRun        bool   `name:"dry-run" help:"Say what would happen, and change nothing."`
	Errors        string `placeholder:"FILE" help:"Write the lines that failed, and why, to this CSV file."`
	TrustVerified string `name:"trust-verified" placeholder:"REASON" help:"Take identities with verified_at for verified, with this reason in the audit log. Default: every identity is unverified until its person claims it."`
}

// Help is what import --help says more.
func (importCmd) Help() string {
	return `A line is a customer, with identities: the accounts they write from.

JSON Lines, one object a line:
  {"email": "steve@example.com", "first_name": "Steve", "identities": [{"channel": "telegram", "external_id": "12345"}]}

CSV, its first line naming the columns, in any order, with commas, semicolons or tabs between them:
  email,first_name,telegram,sms
  steve@example.com,Steve,12345,+61400111222

Fields of a customer: id, email, phone_number, first_name, last_name, company_name, locale, timezone, metadata (a JSON object), fk_id, fk_user_id, source, context. Of an identity: channel, external_id, instance (id or name; without one, every instance), display_name, username, role_override (owner), metadata (in CSV identity_metadata), verified_at, avatar_url, info_url, page_url. In CSV a line holds one identity in channel and external_id, and one more in each of telegram, sms, slack and whatsapp; a customer with several may have several lines.

A customer is known again by the id; without one, by the e-mail address; without one, by fk_id; without one, by an identity. Who is not known is created. What a line leaves empty stays as it is, and identities that are there stay as they are: a file can be imported again, also after it was interrupted, and nothing is done twice.

Lines that fail are named with their numbers, the others are kept, and the exit status is 1.`
}

func (c *importCmd) Run(ctx context.Context, con app.Console) (err error) {
	in, err := c.openInput(con.In)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	lines, err := c.newReader(in)
	if err != nil {
		return err
	}
	failures, err := bulk.NewFailureLog(c.Errors, con.Err)
	if err != nil {
		return err
	}
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return errors.Join(err, failures.Close())
	}
	defer s.Close()
	how := identity.ImportOptions{TenantID: identity.DefaultTenant, Actor: app.CommandActor, TrustReason: strings.TrimSpace(c.TrustVerified), DryRun: c.DryRun}
	run := &bulk.Importer{Reader: lines, Target: s.NewImport(how), Validator: bulk.NewValidator(time.Now()), Failures: failures, Progress: bulk.NewProgress(con.Err)}
	err = run.Run(ctx)
	run.Progress.Erase()
	if cerr := failures.Close(); err == nil {
		err = cerr
	}
	fmt.Fprintln(con.Out, run.Summary(c.DryRun))
	if err == nil && !c.DryRun {
		err = s.Audit(context.WithoutCancel(ctx), identity.Event{TenantID: how.TenantID, Kind: "customers.imported", Actor: app.CommandActor, Detail: run.AuditDetail()})
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted after line %d: what came before is kept, and the same command goes on from there", run.LastCommitted)
	case err != nil:
		return fmt.Errorf("stopped after line %d: %w", run.LastCommitted, err)
	case failures.Count > 0:
		return app.ErrReported
	}
	return nil
}

func (c *importCmd) openInput(stdin io.Reader) (io.ReadCloser, error) {
	if c.File == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(c.File)
}

func (c *importCmd) newReader(in io.Reader) (bulk.LineReader, error) {
	format, err := bulk.DetectFormat(c.Format, c.File)
	if err != nil {
		return nil, err
	}
	if format == bulk.FormatCSV {
		return bulk.NewCSVReader(in)
	}
	return bulk.NewJSONLReader(in), nil
}
