package main

import (
	"fmt"
)

// A target is a performance target and the measured value.
type target struct {
	Row      int    `json:"row"` // groups related targets
	Name     string `json:"what"`
	Limit    string `json:"target"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

const (
	minInsertRatio     = 0.5
	minPerSecond       = 5000 // on two processors
	maxProgramCPU      = 100
	maxDatabaseCPU     = 120
	maxBytes           = 12_000
	minPerSecondSQLite = 1500 // on the embedded database

	maxOtherLoad = .15 // share of the machine for other programs, including Redis and the kernel
)

// maxP99 returns the maximum 99th percentile at a rate, in milliseconds; 0 if there is no target.
func maxP99(rate int) float64 {
	return map[int]float64{100: 8, 1000: 20}[rate]
}

// evaluate computes the ratios between cells and compares the cells with the targets.
func (r *report) evaluate() {
	insert := mean(r.Cells, func(c cell) (float64, bool) { return c.PerSecond, c.Name == "bare single inserts" })
	for i := range r.Cells {
		r.Cells[i].compare(r.Cells, insert)
	}
	var postgres, sqlite []cell
	for _, c := range r.Cells {
		switch {
		case c.Senders == 0 || c.Rate > 0:
		case c.Engine == enginePostgres:
			postgres = append(postgres, c)
		case c.Engine == engineSQLite:
			sqlite = append(sqlite, c)
		}
	}
	r.evaluateMachine()
	r.evaluatePostgres(postgres)
	r.evaluateRates()
	for _, c := range sqlite {
		r.requireAtLeast(13, "embedded, webhooks stored per second, "+c.loadName(), c.PerSecond, minPerSecondSQLite, "%.0f")
	}
}

// compare computes the ratios of a cell of a gateway to the bare handler and the bare inserts. There
// is no bare handler of Slack; it is compared with that of Telegram, which decodes JSON too.
func (c *cell) compare(all []cell, insert float64) {
	if c.Senders == 0 || c.Rate > 0 {
		return
	}
	peer := telegramChannel
	if c.Name == smsChannel {
		peer = smsChannel
	}
	if bare := mean(all, func(o cell) (float64, bool) { return o.PerSecond, o.Name == "bare handler, "+peer }); bare > 0 {
		c.HandlerRatio = c.PerSecond / bare
	}
	if c.Engine == enginePostgres && insert > 0 {
		c.InsertRatio = c.PerSecond / insert
	}
}

// evaluateMachine warns if other programs used the machine.
func (r *report) evaluateMachine() {
	most := 0.0
	for _, c := range r.Cells {
		most = max(most, c.OtherLoad)
	}
	if most > maxOtherLoad {
		r.warnf("other programs used up to %.0f %% of the machine: rates are too low, costs too high", 100*most)
	}
}

func (r *report) evaluatePostgres(cs []cell) {
	for _, c := range cs {
		r.requireAtLeast(1, "webhooks ÷ bare single inserts, "+c.loadName(), c.InsertRatio, minInsertRatio, "%.2f")
	}
	for _, c := range cs {
		r.requireAtLeast(1, "webhooks stored per second, "+c.loadName(), c.PerSecond, minPerSecond, "%.0f")
	}
	for _, c := range cs {
		r.requireAtMost(2, "CPU of the gateway per webhook, µs, "+c.loadName(), c.ProgramCPU, maxProgramCPU, "%.0f")
	}
	for _, c := range cs {
		if c.DatabaseCPU > 0 {
			r.requireAtMost(2, "CPU of PostgreSQL per webhook, µs, "+c.loadName(), c.DatabaseCPU, maxDatabaseCPU, "%.0f")
		}
	}
	for _, c := range cs {
		r.requireAtMost(3, "allocated per webhook, KB, "+c.loadName(), c.Bytes/1000, maxBytes/1000, "%.1f")
	}
}

func (r *report) evaluateRates() {
	for _, c := range r.Cells {
		if limit := maxP99(c.Rate); limit > 0 && c.Engine == enginePostgres {
			r.requireAtMost(4, fmt.Sprintf("p99 at %d/s, ms", c.Rate), c.P99, limit, "%.1f")
		}
	}
}

// loadName returns the name of the load of a cell.
func (c *cell) loadName() string {
	if c.Senders == 1 {
		return c.Name + ", 1 sender"
	}
	return fmt.Sprintf("%s, %d senders", c.Name, c.Senders)
}

// requireAtLeast adds a target that is met if v is at least limit.
func (r *report) requireAtLeast(row int, name string, v, limit float64, format string) {
	r.Targets = append(r.Targets, target{
		Row: row, Name: name, Limit: "≥ " + fmt.Sprintf(format, limit), Measured: fmt.Sprintf(format, v), Met: v >= limit,
	})
}

// requireAtMost adds a target that is met if v is at most limit.
func (r *report) requireAtMost(row int, name string, v, limit float64, format string) {
	r.Targets = append(r.Targets, target{
		Row: row, Name: name, Limit: "≤ " + fmt.Sprintf(format, limit), Measured: fmt.Sprintf(format, v), Met: v <= limit,
	})
}

// mean returns the mean of the values that pick selects, or 0 if it selects none.
func mean(cs []cell, pick func(cell) (float64, bool)) float64 {
	sum, n := 0.0, 0.0
	for _, c := range cs {
		if v, ok := pick(c); ok {
			sum, n = sum+v, n+1
		}
	}
	if n == 0 {
		return 0
	}
	return sum / n
}
