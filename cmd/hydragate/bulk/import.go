package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"hydragate/identity"
	"hydragate/store"
)

// ImportBatchSize is how many customers are imported in one transaction.
const ImportBatchSize = 500

// A LineReader gives the lines of a file of customers.
type LineReader interface {
	// next gives a line and its number; io.EOF after the last, errLine for one that
	// cannot be read.
	next() (customerLine, int, error)
}

// An Importer is an import on its way.
type Importer struct {
	Reader    LineReader
	Target    *store.Import
	Validator *validator
	Failures  *failureLog
	Progress  *progress

	linesRead, created, updated, unchanged, linked int
	LastCommitted                                  int // the last line of the last transaction
}

// Run imports everything, importAtOnce lines at a time.
func (r *Importer) Run(ctx context.Context) error {
	for {
		records, numbers, end, err := r.readBatch()
		if err != nil {
			return err
		}
		if err := r.storeBatch(ctx, records, numbers); err != nil {
			return err
		}
		r.Progress.update(r.linesRead, r.Failures.Count)
		if end {
			return nil
		}
	}
}

// readBatch reads the next lines, and passes over those that are wrong in themselves.
func (r *Importer) readBatch() (records []identity.Record, numbers []int, end bool, err error) {
	for len(records) < ImportBatchSize {
		l, n, err := r.Reader.next()
		var wrong lineError
		switch {
		case errors.Is(err, io.EOF):
			return records, numbers, true, nil
		case errors.As(err, &wrong):
			r.linesRead++
			if err := r.Failures.add(n, wrong.Error()); err != nil {
				return nil, nil, false, err
			}
			continue
		case err != nil:
			return nil, nil, false, err
		}
		r.linesRead++
		record, err := r.Validator.validate(l)
		if err != nil {
			if err := r.Failures.add(n, err.Error()); err != nil {
				return nil, nil, false, err
			}
			continue
		}
		records, numbers = append(records, record), append(numbers, n)
	}
	return records, numbers, false, nil
}

func (r *Importer) storeBatch(ctx context.Context, records []identity.Record, numbers []int) error {
	if len(records) == 0 {
		return nil
	}
	done, err := r.Target.ImportRecords(ctx, records)
	if err != nil {
		return err
	}
	r.LastCommitted = numbers[len(numbers)-1]
	for n, d := range done {
		r.linked += d.Linked
		switch {
		case d.Err != nil:
			if err := r.Failures.add(numbers[n], d.Err.Error()); err != nil {
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

func (r *Importer) Summary(dry bool) string {
	would := ""
	if dry {
		would = "dry run, nothing was changed: "
	}
	return fmt.Sprintf("%s%d lines: %d customers created, %d updated, %d identities linked, %d lines as they were, %d failed",
		would, r.linesRead, r.created, r.updated, r.linked, r.unchanged, r.Failures.Count)
}

func (r *Importer) AuditDetail() map[string]string {
	return map[string]string{
		"lines": strconv.Itoa(r.linesRead), "created": strconv.Itoa(r.created), "updated": strconv.Itoa(r.updated), "linked": strconv.Itoa(r.linked), "failed": strconv.Itoa(r.Failures.Count),
	}
}
