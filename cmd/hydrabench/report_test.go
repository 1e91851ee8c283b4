package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var ds []time.Duration
	for i := range 100 {
		ds = append(ds, time.Duration(i+1))
	}
	for _, c := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{{ds, .5, 50}, {ds, .99, 99}, {ds, 1, 100}, {ds[:1], .99, 1}, {ds[:3], .5, 2}, {nil, .5, 0}} {
		if got := quantile(c.of, c.q); got != c.want {
			t.Errorf("quantile %v of %d: %d", c.q, len(c.of), got)
		}
	}
}

func TestCellHoldsTheWindow(t *testing.T) {
	at := time.Now()
	var ta tally
	for _, after := range []time.Duration{-time.Second, 0, time.Second, 2 * time.Second} {
		ta.samples = append(ta.samples, sample{at: at.Add(after), took: time.Millisecond})
	}
	if c := ta.cell(at, at.Add(2*time.Second)); c.PerSecond != 1 || c.P99 != 1 {
		t.Errorf("%+v", c)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		cell  cell
		err   error
		wrong int
	}{
		"Good":       {cell{Acked: 10, Stored: 10}, nil, 0},
		"Lost":       {cell{Acked: 10, Stored: 9}, nil, 1},
		"Twice":      {cell{Acked: 10, Stored: 11}, nil, 1},
		"Refused":    {cell{Acked: 10, Stored: 10, Refused: 1}, nil, 1},
		"Unanswered": {cell{Acked: 10, Stored: 11, Failed: 1}, errors.New("cut"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			r.check(c.cell, c.err)
			if len(r.Failures) != c.wrong {
				t.Errorf("%q", r.Failures)
			}
		})
	}
}

// sampleReport is a run with one cell of each sort.
func sampleReport() *report {
	r := &report{Machine: "2 processors", Settings: "64 connections", Warnings: []string{"fsync off"}, Cells: []cell{
		{What: "bare handler, telegram", PerSecond: 20_000},
		{What: "bare handler, sms", PerSecond: 10_000},
		{Engine: onPostgres, What: "bare single inserts", PerSecond: 9_000},
		{Engine: onPostgres, What: telegramChannel, Senders: 1, PerSecond: 6_000, ProgramCPU: 90, DatabaseCPU: 130, Bytes: 12_000},
		{Engine: onPostgres, What: "telegram+sms", Senders: maxSenders, Pace: 1000, PerSecond: 1000, P99: 21},
		{Engine: onPostgres, What: "bare single inserts", PerSecond: 11_000},
		{Engine: onSQLite, What: smsChannel, Senders: 1, PerSecond: 1400},
	}}
	r.judge()
	return r
}

func TestJudge(t *testing.T) {
	r := sampleReport()
	if c := r.Cells[3]; c.PerInsert != .6 || c.PerBare != .3 {
		t.Errorf("%+v", c)
	}
	if c := r.Cells[6]; c.PerInsert != 0 || c.PerBare != .14 {
		t.Errorf("%+v", c)
	}
	var got []string
	for _, g := range r.Targets {
		met := "missed"
		if g.Met {
			met = "ok"
		}
		got = append(got, g.Limit+" "+g.Measured+" "+met)
	}
	want := []string{"≥ 0.50 0.60 ok", "≥ 5000 6000 ok", "≤ 100 90 ok", "≤ 120 130 missed", "≤ 12.0 12.0 ok", "≤ 20.0 21.0 missed", "≥ 1500 1400 missed"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", got)
	}
}

func TestReportText(t *testing.T) {
	r := sampleReport()
	r.fail("one was lost")
	var b bytes.Buffer
	if err := r.writeText(&b); err != nil {
		t.Fatal(err)
	}
	widths := map[int]bool{}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") {
			widths[len([]rune(line))] = true
		}
	}
	if len(widths) != 2 {
		t.Errorf("the lines of two tables have %d widths", len(widths))
	}
	for _, say := range []string{"**WARNING**: fsync off", "**FAILED**: one was lost", "missed"} {
		if !strings.Contains(b.String(), say) {
			t.Errorf("does not say %q", say)
		}
	}
}

func TestReportJSON(t *testing.T) {
	r := sampleReport()
	var b bytes.Buffer
	if err := r.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Cells) != len(r.Cells) || back.Targets[0] != r.Targets[0] {
		t.Errorf("%v: %+v", err, back)
	}
}

func TestParseStat(t *testing.T) {
	s, err := parseStat("42 (post) gres: x) S 7 42 42 0 -1 4194560 100 200 0 0 150 50 30 20 20 0 1 0 100 1000 10 18446744073709551615")
	if err != nil || s.command != "post) gres: x" || s.parent != 7 || s.own != 2*time.Second || s.children != 500*time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1", "42 (x) S a 1 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestProcessTime(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	own, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	family, err := familyTime(os.Getpid())
	if err != nil || family < own {
		t.Errorf("%v of %v, %v", own, family, err)
	}
	if all, err := machineTime(); err != nil || all < own {
		t.Errorf("%v of the machine, %v", all, err)
	}
	if peak, err := peakMemory(os.Getpid()); err != nil || peak < 1<<20 {
		t.Errorf("%d, %v", peak, err)
	}
}

func TestParseMetrics(t *testing.T) {
	c, err := parseMetrics(strings.NewReader(`# HELP go_memstats_mallocs_total x
go_memstats_alloc_bytes_total 2.5e+07
go_memstats_mallocs_total 98184
hydragate_messages_worked_total{channel="sms",outcome="forwarded"} 3
hydragate_messages_worked_total{channel="slack",outcome="a } b"} 4
other 1
`))
	if err != nil || c.bytes != 2.5e7 || c.allocs != 98184 || c.worked != 7 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parseMetrics(strings.NewReader("go_memstats_mallocs_total x\n")); err == nil {
		t.Error("no error")
	}
}
