package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A cell is one measurement. Times are in milliseconds, costs for each acknowledged
// message in microseconds of processor time.
type cell struct {
	Engine  string `json:"engine,omitempty"`
	Name    string `json:"what"`
	Senders int    `json:"senders,omitempty"`
	Rate    int    `json:"pace_per_second,omitempty"` // of an open loop

	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	SendDelay float64 `json:"load_late_p99_ms,omitempty"` // what of it is the load's own, in an open loop

	ProgramCPU  float64 `json:"program_cpu_us,omitempty"`
	DatabaseCPU float64 `json:"database_cpu_us,omitempty"`
	LoadCPU     float64 `json:"load_cpu_us"`
	Bytes       float64 `json:"allocated_bytes,omitempty"`
	Allocs      float64 `json:"allocations,omitempty"`

	Acked     int64   `json:"acknowledged"`
	Stored    int64   `json:"stored"`
	Refused   int64   `json:"refused"`
	Failed    int64   `json:"unanswered"`
	OtherLoad float64 `json:"others_share"`                // of the machine, used by nobody measured here
	Processed float64 `json:"worked_per_second,omitempty"` // behind the inbox, meanwhile
	DrainTime float64 `json:"drained_after_s,omitempty"`   // until nothing waited any more

	InsertRatio  float64 `json:"ratio_to_bare_inserts,omitempty"`
	HandlerRatio float64 `json:"ratio_to_bare_handler,omitempty"`
}

// A probe is what bears the load: its costs are read from outside of it.
type probe struct {
	pid      int       // 0 when it is this process
	metrics  string    // origin of its metrics; empty when it has none
	database *database // nil when it has none
}

// A snapshot is what had been used up at one moment, and how many messages had been
// acknowledged when each of it was read.
type snapshot struct {
	at                      time.Time
	program, database, load time.Duration
	machine                 time.Duration
	acked                   int64
	counters                counters
	ackedAtScrape           int64 // when the counters were read
}

func (s probe) read(ctx context.Context, acked *atomic.Int64) (r snapshot, err error) {
	if s.metrics != "" {
		if r.counters, err = scrape(ctx, s.metrics); err != nil {
			return r, err
		}
		r.ackedAtScrape = acked.Load()
	}
	r.at, r.acked = time.Now(), acked.Load()
	if r.load, err = processTime(os.Getpid()); err != nil {
		return r, err
	}
	if r.machine, err = machineTime(); err != nil {
		return r, err
	}
	if s.pid != 0 {
		if r.program, err = processTime(s.pid); err != nil {
			return r, err
		}
	}
	if s.database != nil {
		r.database, err = s.database.cpuTime()
	}
	return r, err
}

// measure drives a load for a warm-up and the duration, and gives what the duration
// showed. drive loads until the time it is told, counting into the tally.
func (s probe) measure(ctx context.Context, duration time.Duration, drive func(until time.Time, t *results) error) (cell, error) {
	var t results
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
	if t.firstErr != nil {
		err = fmt.Errorf("%d messages were not answered, the first: %w", t.failed.Load(), t.firstErr)
	}
	c := t.cell(warm, until)
	c.addCosts(before, after)
	return c, err
}

func (s probe) readAt(ctx context.Context, at time.Time, t *results) (snapshot, error) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.read(ctx, &t.acked)
	case <-ctx.Done():
		return snapshot{}, context.Cause(ctx)
	}
}

// cell gives what the samples between two times show.
func (t *results) cell(from, to time.Time) cell {
	t.mu.Lock()
	defer t.mu.Unlock()
	var took, late []time.Duration
	for _, s := range t.samples {
		if !s.at.Before(from) && s.at.Before(to) {
			took, late = append(took, s.took), append(late, s.sendDelay)
		}
	}
	slices.Sort(took)
	slices.Sort(late)
	return cell{
		PerSecond: float64(len(took)) / to.Sub(from).Seconds(),
		P50:       ms(quantile(took, .5)), P99: ms(quantile(took, .99)), SendDelay: ms(quantile(late, .99)),
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

// addCosts notes what each message cost between two readings.
func (c *cell) addCosts(a, b snapshot) {
	if n := float64(b.acked - a.acked); n > 0 {
		each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / n }
		c.ProgramCPU, c.DatabaseCPU, c.LoadCPU = each(b.program-a.program), each(b.database-a.database), each(b.load-a.load)
	}
	if n := float64(b.ackedAtScrape - a.ackedAtScrape); n > 0 {
		c.Bytes, c.Allocs = (b.counters.bytes-a.counters.bytes)/n, (b.counters.allocs-a.counters.allocs)/n
	}
	others := b.machine - a.machine - (b.program - a.program) - (b.database - a.database) - (b.load - a.load)
	c.OtherLoad = max(0, others.Seconds()/b.at.Sub(a.at).Seconds()/float64(runtime.NumCPU()))
	c.Processed = (b.counters.processed - a.counters.processed) / b.at.Sub(a.at).Seconds()
}

// counters are sums of a process's Prometheus metrics over their labels.
type counters struct {
	bytes, allocs float64 // allocated so far
	processed     float64 // messages worked behind the inbox so far
}

func scrape(ctx context.Context, origin string) (counters, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/metrics", nil)
	if err != nil {
		return counters{}, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return counters{}, fmt.Errorf("read the metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return counters{}, fmt.Errorf("read the metrics: status %d", resp.StatusCode)
	}
	return parseMetrics(resp.Body)
}

func parseMetrics(r io.Reader) (c counters, err error) {
	sums := map[string]*float64{
		"go_memstats_alloc_bytes_total":   &c.bytes,
		"go_memstats_mallocs_total":       &c.allocs,
		"hydragate_messages_worked_total": &c.processed,
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndexByte(lines.Text(), '}'); i >= 0 {
			name, _, _ = strings.Cut(lines.Text(), "{")
			rest, ok = strings.TrimSpace(lines.Text()[i+1:]), true
		}
		sum := sums[name]
		if !ok || sum == nil {
			continue
		}
		v, err := strconv.ParseFloat(rest, 64)
		if err != nil {
			return c, fmt.Errorf("read the metric %s: %w", name, err)
		}
		*sum += v
	}
	return c, lines.Err()
}
