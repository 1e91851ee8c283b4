package bulk

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/mattn/go-isatty"
)

// failureLog are the lines that failed: the first few are told, all are written to a
// file when there is one.
type failureLog struct {
	Count int
	out   io.Writer
	file  *os.File
	rows  *csv.Writer
}

const maxFailuresShown = 20

func NewFailureLog(file string, tell io.Writer) (*failureLog, error) {
	f := &failureLog{out: tell}
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

func (f *failureLog) add(line int, why string) error {
	f.Count++
	switch {
	case f.Count <= maxFailuresShown:
		fmt.Fprintf(f.out, "line %d: %s\n", line, why)
	case f.Count == maxFailuresShown+1 && f.rows == nil:
		fmt.Fprintln(f.out, "… and more; --errors FILE has all of them")
	}
	if f.rows == nil {
		return nil
	}
	return f.rows.Write([]string{strconv.Itoa(line), escapeFormula(why)})
}

func (f *failureLog) Close() error {
	if f.file == nil {
		return nil
	}
	f.rows.Flush()
	return errors.Join(f.rows.Error(), f.file.Close())
}

// A progress shows on a terminal how far something is, once a second.
type progress struct {
	out     io.Writer // nil: nobody looks
	started time.Time
	last    time.Time
}

func NewProgress(w io.Writer) *progress {
	p := &progress{started: time.Now()}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
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
	fmt.Fprintf(p.out, "\r%d lines, %d failed, %.0f a second\x1b[K", lines, failed, float64(lines)/max(now.Sub(p.started).Seconds(), 0.001))
}

func (p *progress) Erase() {
	if p.out != nil && !p.last.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
