package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/identity"
	"hydragate/store"
)

// ImportOptions are the options of Import.
type ImportOptions struct {
	File          string // "-" reads standard input
	Format        string // FormatCSV or FormatJSONL; if empty, the name of the file decides
	ErrorsFile    string // CSV file for the lines that failed; none if empty
	DryRun        bool
	TrustVerified string // reason to import identities with verified_at as verified
}

// Import imports a file of customers, prints failed lines to con.Err and a summary to con.Out. It
// stores the lines in batches, so an interrupted import can be repeated. It returns
// app.ErrReported if lines failed. The database is opened only after the file has been opened and
// its first line read.
func Import(ctx context.Context, s *app.Settings, con app.Console, o ImportOptions) error {
	in, err := openInput(o.File, con.In)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	lines, err := newReader(in, o.Format, o.File)
	if err != nil {
		return err
	}
	failures, err := newFailureLog(o.ErrorsFile, con.Err)
	if err != nil {
		return err
	}
	st, err := app.OpenStore(ctx, s)
	if err != nil {
		return errors.Join(err, failures.close())
	}
	defer st.Close()
	regions, err := st.DefaultRegions(ctx, identity.DefaultTenant)
	if err != nil {
		return errors.Join(err, failures.close())
	}
	target := st.NewImport(identity.ImportOptions{
		TenantID: identity.DefaultTenant, Actor: app.CommandActor,
		TrustReason: strings.TrimSpace(o.TrustVerified), DryRun: o.DryRun,
	})
	i := &importer{
		reader: lines, target: target, validator: newValidator(time.Now()), failures: failures,
		progress: newProgress(con.Err),
	}
	i.validator.regions = regions
	err = i.run(ctx)
	i.progress.erase()
	if cerr := failures.close(); err == nil {
		err = cerr
	}
	fmt.Fprintln(con.Out, i.summary(o.DryRun))
	if err == nil && !o.DryRun {
		err = st.Audit(context.WithoutCancel(ctx), i.auditEvent())
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted after line %d: the lines before are imported; run the same command again to continue",
			i.lastCommitted)
	case err != nil:
		return fmt.Errorf("stopped after line %d: %w", i.lastCommitted, err)
	case failures.count > 0:
		return app.ErrReported
	}
	return nil
}

func openInput(file string, stdin io.Reader) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(file)
}

func newReader(in io.Reader, format, file string) (lineReader, error) {
	format, err := detectFormat(format, file)
	if err != nil {
		return nil, err
	}
	if format == FormatCSV {
		return newCSVReader(in)
	}
	return newJSONLReader(in), nil
}

// importBatchSize is the number of customers that are imported in one transaction.
const importBatchSize = 500

// A lineReader reads the lines of a file of customers.
type lineReader interface {
	// next returns a line and its number. It returns io.EOF after the last line, and a lineError
	// for a line that cannot be read.
	next() (customerLine, int, error)
}

// An importer runs an import and counts what it did.
type importer struct {
	reader    lineReader
	target    *store.Import
	validator *validator
	failures  *failureLog
	progress  *progress

	linesRead, created, updated, unchanged, linked int
	lastCommitted                                  int // last line of the last transaction
}

// run imports all lines, importBatchSize lines at a time.
func (i *importer) run(ctx context.Context) error {
	for {
		records, numbers, end, err := i.readBatch()
		if err != nil {
			return err
		}
		if err := i.storeBatch(ctx, records, numbers); err != nil {
			return err
		}
		i.progress.update(i.linesRead, i.failures.count)
		if end {
			return nil
		}
	}
}

// readBatch reads the next lines and records invalid ones as failures. It returns the records and
// their line numbers, and whether the file has ended.
func (i *importer) readBatch() (records []identity.Record, numbers []int, end bool, err error) {
	for len(records) < importBatchSize {
		l, n, err := i.reader.next()
		var invalid lineError
		switch {
		case errors.Is(err, io.EOF):
			return records, numbers, true, nil
		case errors.As(err, &invalid):
			i.linesRead++
			if err := i.failures.add(n, invalid.Error()); err != nil {
				return nil, nil, false, err
			}
			continue
		case err != nil:
			return nil, nil, false, err
		}
		i.linesRead++
		record, err := i.validator.validate(l)
		if err != nil {
			if err := i.failures.add(n, err.Error()); err != nil {
				return nil, nil, false, err
			}
			continue
		}
		records, numbers = append(records, record), append(numbers, n)
	}
	return records, numbers, false, nil
}

// storeBatch imports records in one transaction and counts the results.
func (i *importer) storeBatch(ctx context.Context, records []identity.Record, numbers []int) error {
	if len(records) == 0 {
		return nil
	}
	results, err := i.target.ImportRecords(ctx, records)
	if err != nil {
		return err
	}
	i.lastCommitted = numbers[len(numbers)-1]
	for n, r := range results {
		i.linked += r.Linked
		switch {
		case r.Err != nil:
			if err := i.failures.add(numbers[n], r.Err.Error()); err != nil {
				return err
			}
		case r.Created:
			i.created++
		case r.Updated:
			i.updated++
		case r.Linked == 0:
			i.unchanged++
		}
	}
	return nil
}

// summary returns a sentence about the import.
func (i *importer) summary(dryRun bool) string {
	prefix := ""
	if dryRun {
		prefix = "dry run, nothing was changed: "
	}
	return fmt.Sprintf("%s%d lines: %d customers created, %d updated, %d identities linked, %d lines unchanged, %d failed",
		prefix, i.linesRead, i.created, i.updated, i.linked, i.unchanged, i.failures.count)
}

// auditEvent returns the event that records the import in the audit log.
func (i *importer) auditEvent() identity.Event {
	return identity.Event{
		TenantID: identity.DefaultTenant, Kind: "customers.imported", Actor: app.CommandActor,
		Detail: map[string]string{
			"lines":   strconv.Itoa(i.linesRead),
			"created": strconv.Itoa(i.created),
			"updated": strconv.Itoa(i.updated),
			"linked":  strconv.Itoa(i.linked),
			"failed":  strconv.Itoa(i.failures.count),
		},
	}
}
