package bulk

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/app"
)

// A failureLog records the lines that failed. It prints the first ones, and writes all of them to
// a file if there is one.
type failureLog struct {
	count int
	out   io.Writer
	file  *os.File // nil if there is none
	rows  *csv.Writer
}

// maxFailuresShown is the number of failed lines that are printed.
const maxFailuresShown = 20

// newFailureLog returns a log that prints to out. It creates file unless the name is empty.
func newFailureLog(file string, out io.Writer) (*failureLog, error) {
	f := &failureLog{out: out}
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

func (f *failureLog) add(line int, message string) error {
	f.count++
	switch {
	case f.count <= maxFailuresShown:
		fmt.Fprintf(f.out, "line %d: %s\n", line, adapters.Printable(message))
	case f.count == maxFailuresShown+1 && f.rows == nil:
		fmt.Fprintln(f.out, "… more lines failed; --errors FILE writes all of them to a file")
	}
	if f.rows == nil {
		return nil
	}
	return f.rows.Write([]string{strconv.Itoa(line), escapeFormula(message)})
}

func (f *failureLog) close() error {
	if f.file == nil {
		return nil
	}
	f.rows.Flush()
	return errors.Join(f.rows.Error(), f.file.Close())
}

// A progress prints a line on a terminal that it updates once a second. It prints nothing
// elsewhere.
type progress struct {
	out     io.Writer // nil if it is not a terminal
	started time.Time
	last    time.Time
}

func newProgress(w io.Writer) *progress {
	p := &progress{started: time.Now()}
	if app.IsTerminal(w) {
		p.out = w
	}
	return p
}

func (p *progress) update(lines, failed int) {
	now := time.Now()
	if p.out == nil || now.Sub(p.last) < time.Second {
		return
	}
	p.last = now
	perSecond := float64(lines) / max(now.Sub(p.started).Seconds(), 0.001)
	fmt.Fprintf(p.out, "\r%d lines, %d failed, %.0f per second\x1b[K", lines, failed, perSecond)
}

// erase removes the line, if there is one.
func (p *progress) erase() {
	if p.out != nil && !p.last.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.last = time.Time{}
	}
}
