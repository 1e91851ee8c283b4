package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A report contains the results of a run.
type report struct {
	Machine  string   `json:"machine"`
	Settings string   `json:"settings"`
	Stores   []string `json:"stores"`
	Warnings []string `json:"warnings"`
	Notes    []string `json:"notes"`
	Cells    []cell   `json:"cells"`
	Targets  []target `json:"targets"`
	Failures []string `json:"failures"` // lost or refused messages
}

// warnf adds a warning.
func (r *report) warnf(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// notef adds a note.
func (r *report) notef(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// failf adds a failure.
func (r *report) failf(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// checkCell records a failure if a message was lost, stored twice, or refused.
func (r *report) checkCell(c cell, err error) {
	name := c.Engine + ", " + c.loadName()
	if err != nil {
		r.failf("%s: %v", name, err)
	}
	if c.Refused > 0 {
		r.failf("%s: %d messages were refused", name, c.Refused)
	}
	// A message without a response, or refused, may be stored or not.
	if c.Stored < c.Acked || c.Stored > c.Acked+c.Failed+c.Refused {
		r.failf("%s: %d messages were acknowledged and %d stored", name, c.Acked, c.Stored)
	}
}

// writeJSON writes the report as JSON.
func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeText writes the report as Markdown.
func (r *report) writeText(w io.Writer) error {
	var b strings.Builder
	for _, line := range append([]string{r.Machine, r.Settings}, r.Stores...) {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, line := range r.Warnings {
		fmt.Fprintf(&b, "- **WARNING**: %s\n", line)
	}
	b.WriteString(`
Closed loop: each connection sends the next message when the previous one is acknowledged. Open loop (with a pace):
messages are due at fixed times, and the latency counts from then. Costs are microseconds of processor time, bytes and
allocations for each acknowledged message. They include the processing of messages during the measurement (worked/s).
The instance has no application. Load is the cost of the load generator on the same processors. Others is the share of
the machine that other programs used, including Redis and the kernel.

`)
	r.writeCells(&b)
	b.WriteString("\n")
	r.writeTargets(&b)
	for _, line := range r.Notes {
		fmt.Fprintf(&b, "\n- %s", line)
	}
	for _, line := range r.Failures {
		fmt.Fprintf(&b, "\n- **FAILED**: %s", line)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCells writes the table of cells.
func (r *report) writeCells(b *strings.Builder) {
	rows := [][]string{{
		"engine", "what", "senders", "pace", "per second", "p50 ms", "p99 ms",
		"program µs", "database µs", "load µs", "others %", "KB", "allocs",
		"÷ insert", "÷ handler", "worked/s", "drain s", "acked", "stored", "refused", "lost?",
	}}
	for _, c := range r.Cells {
		rows = append(rows, []string{
			c.Engine, c.Name, formatWhole(float64(c.Senders)), formatWhole(float64(c.Rate)), formatWhole(c.PerSecond),
			fmt.Sprintf("%.1f", c.P50), fmt.Sprintf("%.1f", c.P99),
			formatWhole(c.ProgramCPU), formatWhole(c.DatabaseCPU), formatWhole(c.LoadCPU), formatWhole(100 * c.OtherLoad),
			formatNonZero("%.1f", c.Bytes/1000), formatWhole(c.Allocs),
			formatNonZero("%.2f", c.InsertRatio), formatNonZero("%.2f", c.HandlerRatio),
			formatWhole(c.Processed), formatNonZero("%.1f", c.DrainTime),
			fmt.Sprint(c.Acked), formatWhole(float64(c.Stored)), fmt.Sprint(c.Refused), fmt.Sprint(c.Failed),
		})
	}
	writeTable(b, rows, 2)
}

// writeTargets writes the table of targets.
func (r *report) writeTargets(b *strings.Builder) {
	rows := [][]string{{"row", "what", "target", "measured", ""}}
	for _, t := range r.Targets {
		result := "missed"
		if t.Met {
			result = "ok"
		}
		rows = append(rows, []string{fmt.Sprint(t.Row), t.Name, t.Limit, t.Measured, result})
	}
	writeTable(b, rows, 2)
}

// String returns a cell as one line, which is printed as soon as it is measured.
func (c *cell) String() string {
	s := strings.TrimSpace(c.Engine + " " + c.Name)
	if c.Senders > 0 {
		s = strings.TrimSpace(c.Engine + " " + c.loadName())
	}
	if c.Rate > 0 {
		s += fmt.Sprintf(", open loop %d/s", c.Rate)
	}
	return fmt.Sprintf("%s: %.0f/s, p50 %.1f ms, p99 %.1f ms, %.0f µs + database %.0f µs, %.1f KB",
		s, c.PerSecond, c.P50, c.P99, c.ProgramCPU, c.DatabaseCPU, c.Bytes/1000)
}

// formatWhole formats a number without a fraction, and zero as the empty string.
func formatWhole(v float64) string { return formatNonZero("%.0f", v) }

// formatNonZero formats a number, and zero as the empty string.
func formatNonZero(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// writeTable writes rows as a Markdown table with aligned columns. The first row names the columns.
// The first columns, as many as words, are text; the others are numbers.
func writeTable(b *strings.Builder, rows [][]string, words int) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, v := range row {
			width[i] = max(width[i], utf8.RuneCountInString(v), 3)
		}
	}
	for n, row := range rows {
		for i, v := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(v))
			if i < words {
				v += pad
			} else {
				v = pad + v
			}
			b.WriteString("| " + v + " ")
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range row {
			rule := strings.Repeat("-", width[i]+1) + ":"
			if i < words {
				rule = strings.Repeat("-", width[i]+2)
			}
			b.WriteString("|" + rule)
		}
		b.WriteString("|\n")
	}
}
