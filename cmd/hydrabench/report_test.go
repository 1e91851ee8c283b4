package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestReport_CheckCell(t *testing.T) {
	for name, c := range map[string]struct {
		cell     cell
		err      error
		failures int
	}{
		"valid":        {cell{Acked: 10, Stored: 10}, nil, 0},
		"lost":         {cell{Acked: 10, Stored: 9}, nil, 1},
		"stored twice": {cell{Acked: 10, Stored: 11}, nil, 1},
		"refused":      {cell{Acked: 10, Stored: 10, Refused: 1}, nil, 1},
		"no response":  {cell{Acked: 10, Stored: 11, Failed: 1}, errors.New("cut"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			r.checkCell(c.cell, c.err)
			if len(r.Failures) != c.failures {
				t.Errorf("failures = %q, want %d", r.Failures, c.failures)
			}
		})
	}
}

// sampleReport returns a report with a cell of each kind.
func sampleReport() *report {
	r := &report{Machine: "2 processors", Settings: "64 connections", Warnings: []string{"fsync off"}, Cells: []cell{
		{Name: "bare handler, telegram", PerSecond: 20_000},
		{Name: "bare handler, sms", PerSecond: 10_000},
		{Engine: enginePostgres, Name: "bare single inserts", PerSecond: 9_000},
		{
			Engine: enginePostgres, Name: telegramChannel, Senders: 1,
			PerSecond: 6_000, ProgramCPU: 90, DatabaseCPU: 130, Bytes: 12_000,
		},
		{Engine: enginePostgres, Name: "telegram+sms", Senders: maxSenders, Rate: 1000, PerSecond: 1000, P99: 21},
		{Engine: enginePostgres, Name: "bare single inserts", PerSecond: 11_000},
		{Engine: engineSQLite, Name: smsChannel, Senders: 1, PerSecond: 1400},
	}}
	r.evaluate()
	return r
}

func TestReport_Evaluate(t *testing.T) {
	r := sampleReport()
	if c := r.Cells[3]; c.InsertRatio != .6 || c.HandlerRatio != .3 {
		t.Errorf("PostgreSQL cell = %+v, want ratios .6 and .3", c)
	}
	if c := r.Cells[6]; c.InsertRatio != 0 || c.HandlerRatio != .14 {
		t.Errorf("SQLite cell = %+v, want ratios 0 and .14", c)
	}
	var got []string
	for _, g := range r.Targets {
		met := "missed"
		if g.Met {
			met = "ok"
		}
		got = append(got, g.Limit+" "+g.Measured+" "+met)
	}
	want := []string{
		"≥ 0.50 0.60 ok", "≥ 5000 6000 ok", "≤ 100 90 ok", "≤ 120 130 missed", "≤ 12.0 12.0 ok",
		"≤ 20.0 21.0 missed", "≥ 1500 1400 missed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("targets = %q, want %q", got, want)
	}
}

func TestReport_Text(t *testing.T) {
	r := sampleReport()
	r.failf("one was lost")
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
		t.Errorf("the lines of the two tables have %d widths, want 2", len(widths))
	}
	for _, want := range []string{"**WARNING**: fsync off", "**FAILED**: one was lost", "missed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report does not contain %q", want)
		}
	}
}

func TestReport_JSON(t *testing.T) {
	r := sampleReport()
	var b bytes.Buffer
	if err := r.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back report
	err := json.Unmarshal(b.Bytes(), &back)
	if err != nil || len(back.Cells) != len(r.Cells) || back.Targets[0] != r.Targets[0] {
		t.Errorf("decoded report = %+v, %v", back, err)
	}
}
