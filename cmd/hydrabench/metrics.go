package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// counters are sums of a process's Prometheus metrics over their labels.
type counters struct {
	bytes, allocs float64 // allocated so far
	worked        float64 // messages worked behind the inbox so far
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
		"hydragate_messages_worked_total": &c.worked,
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
