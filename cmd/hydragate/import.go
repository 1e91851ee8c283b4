package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"hydragate/identity"
	"hydragate/store"
)

type importCmd struct {
	settings      `group:"Settings:"`
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

// importAtOnce is how many customers are imported in one transaction.
const importAtOnce = 500

// A bulkReader gives the lines of a file of customers.
type bulkReader interface {
	// next gives a line and its number; io.EOF after the last, errLine for one that
	// cannot be read.
	next() (bulkLine, int, error)
}

func (c *importCmd) Run(ctx context.Context, con console) (err error) {
	in, err := c.open(con.in)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	lines, err := c.reader(in)
	if err != nil {
		return err
	}
	failures, err := newFailures(c.Errors, con.err)
	if err != nil {
		return err
	}
	s, err := openStore(ctx, &c.settings)
	if err != nil {
		return errors.Join(err, failures.close())
	}
	defer s.Close()
	how := identity.Importing{TenantID: identity.DefaultTenant, By: byCommand, Trust: strings.TrimSpace(c.TrustVerified), DryRun: c.DryRun}
	run := &importRun{lines: lines, into: s.NewImport(how), check: newBulkCheck(time.Now()), failures: failures, shown: progressOn(con.err)}
	err = run.all(ctx)
	run.shown.end()
	if cerr := failures.close(); err == nil {
		err = cerr
	}
	fmt.Fprintln(con.out, run.summary(c.DryRun))
	if err == nil && !c.DryRun {
		err = s.Audit(context.WithoutCancel(ctx), identity.Event{TenantID: how.TenantID, Kind: "customers.imported", Actor: byCommand, Detail: run.counts()})
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted after line %d: what came before is kept, and the same command goes on from there", run.kept)
	case err != nil:
		return fmt.Errorf("stopped after line %d: %w", run.kept, err)
	case failures.n > 0:
		return errSaid
	}
	return nil
}

func (c *importCmd) open(stdin io.Reader) (io.ReadCloser, error) {
	if c.File == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(c.File)
}

func (c *importCmd) reader(in io.Reader) (bulkReader, error) {
	format, err := formatOf(c.Format, c.File)
	if err != nil {
		return nil, err
	}
	if format == formatCSV {
		return newCSVLines(in)
	}
	return newJSONLines(in), nil
}

// An importRun is an import on its way.
type importRun struct {
	lines    bulkReader
	into     *store.Import
	check    *bulkCheck
	failures *failures
	shown    *progress

	read, created, updated, unchanged, linked int
	kept                                      int // the last line of the last transaction
}

// all imports everything, importAtOnce lines at a time.
func (r *importRun) all(ctx context.Context) error {
	for {
		records, numbers, end, err := r.some()
		if err != nil {
			return err
		}
		if err := r.keep(ctx, records, numbers); err != nil {
			return err
		}
		r.shown.show(r.read, r.failures.n)
		if end {
			return nil
		}
	}
}

// some reads the next lines, and passes over those that are wrong in themselves.
func (r *importRun) some() (records []identity.Record, numbers []int, end bool, err error) {
	for len(records) < importAtOnce {
		l, n, err := r.lines.next()
		var wrong errLine
		switch {
		case errors.Is(err, io.EOF):
			return records, numbers, true, nil
		case errors.As(err, &wrong):
			r.read++
			if err := r.failures.add(n, wrong.Error()); err != nil {
				return nil, nil, false, err
			}
			continue
		case err != nil:
			return nil, nil, false, err
		}
		r.read++
		record, err := r.check.record(l)
		if err != nil {
			if err := r.failures.add(n, err.Error()); err != nil {
				return nil, nil, false, err
			}
			continue
		}
		records, numbers = append(records, record), append(numbers, n)
	}
	return records, numbers, false, nil
}

func (r *importRun) keep(ctx context.Context, records []identity.Record, numbers []int) error {
	if len(records) == 0 {
		return nil
	}
	done, err := r.into.Take(ctx, records)
	if err != nil {
		return err
	}
	r.kept = numbers[len(numbers)-1]
	for n, d := range done {
		r.linked += d.Linked
		switch {
		case d.Err != nil:
			if err := r.failures.add(numbers[n], d.Err.Error()); err != nil {
				return err
			}
		case d.Created:
			r.created++
		case d.Updated:
			r.updated++
		case d.Linked == 0:
			r.unchanged++
		}
	}
	return nil
}

func (r *importRun) summary(dry bool) string {
	would := ""
	if dry {
		would = "dry run, nothing was changed: "
	}
	return fmt.Sprintf("%s%d lines: %d customers created, %d updated, %d identities linked, %d lines as they were, %d failed",
		would, r.read, r.created, r.updated, r.linked, r.unchanged, r.failures.n)
}

func (r *importRun) counts() map[string]string {
	return map[string]string{
		"lines": strconv.Itoa(r.read), "created": strconv.Itoa(r.created), "updated": strconv.Itoa(r.updated), "linked": strconv.Itoa(r.linked), "failed": strconv.Itoa(r.failures.n),
	}
}

// failures are the lines that failed: the first few are told, all are written to a
// file when there is one.
type failures struct {
	n    int
	tell io.Writer
	file *os.File
	rows *csv.Writer
}

const failuresTold = 20

func newFailures(file string, tell io.Writer) (*failures, error) {
	f := &failures{tell: tell}
	if file == "" {
		return f, nil
	}
	var err error
	if f.file, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, fmt.Errorf("--errors: %w", err)
	}
	f.rows = csv.NewWriter(f.file)
	return f, f.rows.Write([]string{"line", "error"})
}

func (f *failures) add(line int, why string) error {
	f.n++
	switch {
	case f.n <= failuresTold:
		fmt.Fprintf(f.tell, "line %d: %s\n", line, why)
	case f.n == failuresTold+1 && f.rows == nil:
		fmt.Fprintln(f.tell, "… and more; --errors FILE has all of them")
	}
	if f.rows == nil {
		return nil
	}
	return f.rows.Write([]string{strconv.Itoa(line), disarmed(why)})
}

func (f *failures) close() error {
	if f.file == nil {
		return nil
	}
	f.rows.Flush()
	return errors.Join(f.rows.Error(), f.file.Close())
}

// A progress shows on a terminal how far something is, once a second.
type progress struct {
	to    io.Writer // nil: nobody looks
	begun time.Time
	last  time.Time
}

func progressOn(w io.Writer) *progress {
	p := &progress{begun: time.Now()}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.to = w
	}
	return p
}

func (p *progress) show(lines, failed int) {
	now := time.Now()
	if p.to == nil || now.Sub(p.last) < time.Second {
		return
	}
	p.last = now
	fmt.Fprintf(p.to, "\r%d lines, %d failed, %.0f a second\x1b[K", lines, failed, float64(lines)/max(now.Sub(p.begun).Seconds(), 0.001))
}

func (p *progress) end() {
	if p.to != nil && !p.last.IsZero() {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
