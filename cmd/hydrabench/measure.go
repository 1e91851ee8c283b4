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

// A cell is the result of one measurement. Latencies are in milliseconds. Costs are in microseconds
// of processor time for each acknowledged message.
type cell struct {
	Engine  string `json:"engine,omitempty"`
	Name    string `json:"what"`
	Senders int    `json:"senders,omitempty"`
	Rate    int    `json:"pace_per_second,omitempty"` // of an open loop

	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	SendDelay float64 `json:"load_late_p99_ms,omitempty"` // part that the load caused, in an open loop

	ProgramCPU  float64 `json:"program_cpu_us,omitempty"`
	DatabaseCPU float64 `json:"database_cpu_us,omitempty"`
	LoadCPU     float64 `json:"load_cpu_us"`
	Bytes       float64 `json:"allocated_bytes,omitempty"`
	Allocs      float64 `json:"allocations,omitempty"`

	Acked     int64   `json:"acknowledged"`
	Stored    int64   `json:"stored"`
	Refused   int64   `json:"refused"`
	Failed    int64   `json:"unanswered"`
	OtherLoad float64 `json:"others_share"`                // share of the machine that other programs used
	Processed float64 `json:"worked_per_second,omitempty"` // messages that were processed during the measurement
	DrainTime float64 `json:"drained_after_s,omitempty"`   // until all messages were processed

	InsertRatio  float64 `json:"ratio_to_bare_inserts,omitempty"`
	HandlerRatio float64 `json:"ratio_to_bare_handler,omitempty"`
}

// A probe measures a program and its database from outside.
type probe struct {
	pid      int       // 0 if the load measures only the database
	metrics  string    // URL of its metrics, without the path; empty if it has none
	database *database // nil if it has none
}

// A snapshot contains the processor times and counters at one moment, and the number of messages that
// were acknowledged when they were read.
type snapshot struct {
	at                      time.Time
	program, database, load time.Duration
	machine                 time.Duration
	acked                   int64
	counters                counters
	ackedAtScrape           int64 // when counters was read
}

// read takes a snapshot.
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

// measure runs a load for a warm-up and the duration, and returns the results of the duration. run
// must send messages until the time until and count them in t.
func (s probe) measure(
	ctx context.Context, duration time.Duration, run func(until time.Time, t *results) error,
) (cell, error) {
	var t results
	from := time.Now().Add(duration / 4)
	until := from.Add(duration)
	done := make(chan error, 1)
	go func() { done <- run(until, &t) }()

	before, err := s.readAt(ctx, from, &t)
	if err != nil {
		return cell{}, err
	}
	after, err := s.readAt(ctx, until, &t)
	if err != nil {
		return cell{}, err
	}
	if err := <-done; err != nil {
		return cell{}, err
	}
	if t.firstErr != nil {
		err = fmt.Errorf("%d messages got no response, the first: %w", t.failed.Load(), t.firstErr)
	}
	c := t.cell(from, until)
	c.addCosts(before, after)
	return c, err
}

// readAt takes a snapshot at a time.
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

// cell returns the throughput and the latencies of the samples between two times.
func (t *results) cell(from, to time.Time) cell {
	t.mu.Lock()
	defer t.mu.Unlock()
	var latencies, delays []time.Duration
	for _, s := range t.samples {
		if !s.at.Before(from) && s.at.Before(to) {
			latencies, delays = append(latencies, s.took), append(delays, s.sendDelay)
		}
	}
	slices.Sort(latencies)
	slices.Sort(delays)
	return cell{
		PerSecond: float64(len(latencies)) / to.Sub(from).Seconds(),
		P50:       ms(quantile(latencies, .5)), P99: ms(quantile(latencies, .99)), SendDelay: ms(quantile(delays, .99)),
		Acked: t.acked.Load(), Refused: t.refused.Load(), Failed: t.failed.Load(),
	}
}

// quantile returns the smallest value of sorted that is not less than the share q of the values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+.999999) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

// ms returns d in milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// addCosts sets what each message cost between two snapshots.
func (c *cell) addCosts(a, b snapshot) {
	if n := float64(b.acked - a.acked); n > 0 {
		each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / n }
		c.ProgramCPU = each(b.program - a.program)
		c.DatabaseCPU = each(b.database - a.database)
		c.LoadCPU = each(b.load - a.load)
	}
	if n := float64(b.ackedAtScrape - a.ackedAtScrape); n > 0 {
		c.Bytes, c.Allocs = (b.counters.bytes-a.counters.bytes)/n, (b.counters.allocs-a.counters.allocs)/n
	}
	others := b.machine - a.machine - (b.program - a.program) - (b.database - a.database) - (b.load - a.load)
	c.OtherLoad = max(0, others.Seconds()/b.at.Sub(a.at).Seconds()/float64(runtime.NumCPU()))
	c.Processed = (b.counters.processed - a.counters.processed) / b.at.Sub(a.at).Seconds()
}

// counters are metrics of a process, summed over their labels.
type counters struct {
	bytes, allocs float64 // allocated bytes, and number of allocations
	processed     float64 // messages processed
}

// scrape reads the metrics of a program.
func scrape(ctx context.Context, origin string) (counters, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/metrics", http.NoBody)
	if err != nil {
		return counters{}, err
	}
	client := http.Client{Timeout: responseTimeout}
	resp, err := client.Do(r)
	if err != nil {
		return counters{}, fmt.Errorf("read the metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return counters{}, fmt.Errorf("read the metrics: status %d", resp.StatusCode)
	}
	return parseMetrics(resp.Body)
}

// parseMetrics parses the Prometheus text format.
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
