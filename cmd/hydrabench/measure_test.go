package main

import (
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
			t.Errorf("quantile(%d values, %v) = %d, want %d", len(c.of), c.q, got, c.want)
		}
	}
}

func TestResults_CellWindow(t *testing.T) {
	at := time.Now()
	var ta results
	for _, after := range []time.Duration{-time.Second, 0, time.Second, 2 * time.Second} {
		ta.samples = append(ta.samples, sample{at: at.Add(after), took: time.Millisecond})
	}
	if c := ta.cell(at, at.Add(2*time.Second)); c.PerSecond != 1 || c.P99 != 1 {
		t.Errorf("cell = %+v, want 1 per second and a p99 of 1 ms", c)
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
	if err != nil || c.bytes != 2.5e7 || c.allocs != 98184 || c.processed != 7 {
		t.Errorf("parseMetrics = %+v, %v", c, err)
	}
	if _, err := parseMetrics(strings.NewReader("go_memstats_mallocs_total x\n")); err == nil {
		t.Error("parseMetrics of an invalid value = nil, want an error")
	}
}
