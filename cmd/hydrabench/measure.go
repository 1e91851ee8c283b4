package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// A cell is one measurement. Times are in milliseconds, costs for each acknowledged
// message in microseconds of processor time.
type cell struct {
	Engine  string `json:"engine,omitempty"`
	What    string `json:"what"`
	Senders int    `json:"senders,omitempty"`
	Pace    int    `json:"pace_per_second,omitempty"` // of an open loop

	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Late      float64 `json:"load_late_p99_ms,omitempty"` // what of it is the load's own, in an open loop

	ProgramCPU  float64 `json:"program_cpu_us,omitempty"`
	DatabaseCPU float64 `json:"database_cpu_us,omitempty"`
	LoadCPU     float64 `json:"load_cpu_us"`
	Bytes       float64 `json:"allocated_bytes,omitempty"`
	Allocs      float64 `json:"allocations,omitempty"`

	Acked   int64   `json:"acknowledged"`
	Stored  int64   `json:"stored"`
	Refused int64   `json:"refused"`
	Failed  int64   `json:"unanswered"`
	Others  float64 `json:"others_share"`                // of the machine, used by nobody measured here
	Worked  float64 `json:"worked_per_second,omitempty"` // behind the inbox, meanwhile
	Drained float64 `json:"drained_after_s,omitempty"`   // until nothing waited any more

	PerInsert float64 `json:"ratio_to_bare_inserts,omitempty"`
	PerBare   float64 `json:"ratio_to_bare_handler,omitempty"`
}

// A subject is what bears the load: its costs are read from outside of it.
type subject struct {
	pid      int       // 0 when it is this process
	metrics  string    // origin of its metrics; empty when it has none
	database *database // nil when it has none
}

// A reading is what had been used up at one moment, and how many messages had been
// acknowledged when each of it was read.
type reading struct {
	at                      time.Time
	program, database, load time.Duration
	machine                 time.Duration
	acked                   int64
	counters                counters
	ackedThen               int64 // when the counters were read
}

func (s subject) read(ctx context.Context, acked *atomic.Int64) (r reading, err error) {
	if s.metrics != "" {
		if r.counters, err = scrape(ctx, s.metrics); err != nil {
			return r, err
		}
		r.ackedThen = acked.Load()
	}
	r.at, r.acked = time.Now(), acked.Load()
	if r.load, err = processorTime(os.Getpid()); err != nil {
		return r, err
	}
	if r.machine, err = machineTime(); err != nil {
		return r, err
	}
	if s.pid != 0 {
		if r.program, err = processorTime(s.pid); err != nil {
			return r, err
		}
	}
	if s.database != nil {
		r.database, err = s.database.time()
	}
	return r, err
}

// measure drives a load for a warm-up and the duration, and gives what the duration
// showed. drive loads until the time it is told, counting into the tally.
func (s subject) measure(ctx context.Context, duration time.Duration, drive func(until time.Time, t *tally) error) (cell, error) {
	var t tally
	warm := time.Now().Add(duration / 4)
	until := warm.Add(duration)
	driven := make(chan error, 1)
	go func() { driven <- drive(until, &t) }()

	before, err := s.readAt(ctx, warm, &t)
	if err != nil {
		return cell{}, err
	}
	after, err := s.readAt(ctx, until, &t)
	if err != nil {
		return cell{}, err
	}
	if err := <-driven; err != nil {
		return cell{}, err
	}
	if t.oops != nil {
		err = fmt.Errorf("%d messages were not answered, the first: %w", t.failed.Load(), t.oops)
	}
	c := t.cell(warm, until)
	c.spent(before, after)
	return c, err
}

func (s subject) readAt(ctx context.Context, at time.Time, t *tally) (reading, error) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.read(ctx, &t.acked)
	case <-ctx.Done():
		return reading{}, context.Cause(ctx)
	}
}

// cell gives what the samples between two times show.
func (t *tally) cell(from, to time.Time) cell {
	t.mu.Lock()
	defer t.mu.Unlock()
	var took, late []time.Duration
	for _, s := range t.samples {
		if !s.at.Before(from) && s.at.Before(to) {
			took, late = append(took, s.took), append(late, s.late)
		}
	}
	slices.Sort(took)
	slices.Sort(late)
	return cell{
		PerSecond: float64(len(took)) / to.Sub(from).Seconds(),
		P50:       ms(quantile(took, .5)), P99: ms(quantile(took, .99)), Late: ms(quantile(late, .99)),
		Acked: t.acked.Load(), Refused: t.refused.Load(), Failed: t.failed.Load(),
	}
}

// quantile gives the smallest of sorted that is not below the share q of them.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+.999999) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spent notes what each message cost between two readings.
func (c *cell) spent(a, b reading) {
	if n := float64(b.acked - a.acked); n > 0 {
		each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / n }
		c.ProgramCPU, c.DatabaseCPU, c.LoadCPU = each(b.program-a.program), each(b.database-a.database), each(b.load-a.load)
	}
	if n := float64(b.ackedThen - a.ackedThen); n > 0 {
		c.Bytes, c.Allocs = (b.counters.bytes-a.counters.bytes)/n, (b.counters.allocs-a.counters.allocs)/n
	}
	others := b.machine - a.machine - (b.program - a.program) - (b.database - a.database) - (b.load - a.load)
	c.Others = max(0, others.Seconds()/b.at.Sub(a.at).Seconds()/float64(runtime.NumCPU()))
	c.Worked = (b.counters.worked - a.counters.worked) / b.at.Sub(a.at).Seconds()
}
