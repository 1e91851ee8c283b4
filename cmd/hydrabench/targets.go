package main

import "fmt"

// A target is something the gateway promises, and what came of it. Rows are those of
// the house's list of targets.
type target struct {
	Row      int    `json:"row"`
	What     string `json:"what"`
	Limit    string `json:"target"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

const (
	leastPerInsert   = 0.5
	leastPerSecond   = 5000 // on two processors
	mostProgramCPU   = 100
	mostDatabaseCPU  = 120
	mostBytes        = 12_000
	leastPerSecondDB = 1500 // on the embedded database

	quiet = .15 // the share of the machine that may go to others; Redis and the kernel take some
)

// mostLate gives the limit in ms of the slowest percent at a pace, 0 for none.
func mostLate(pace int) float64 {
	return map[int]float64{100: 8, 1000: 20}[pace]
}

// judge compares the cells with each other and with the targets.
func (r *report) judge() {
	insert := mean(r.Cells, func(c cell) (float64, bool) { return c.PerSecond, c.What == "bare single inserts" })
	for i := range r.Cells {
		r.Cells[i].compare(r.Cells, insert)
	}
	var postgres, sqlite []cell
	for _, c := range r.Cells {
		switch {
		case c.Senders == 0 || c.Pace > 0:
		case c.Engine == onPostgres:
			postgres = append(postgres, c)
		case c.Engine == onSQLite:
			sqlite = append(sqlite, c)
		}
	}
	r.judgeMachine()
	r.judgePostgres(postgres)
	r.judgePaces()
	for _, c := range sqlite {
		r.least(13, "embedded, hooks stored per second, "+c.of(), c.PerSecond, leastPerSecondDB, "%.0f")
	}
}

// compare sets a gateway's cell in relation to what was measured beside it. The bare
// handlers know two channels; Slack is set against Telegram's, which reads JSON too.
func (c *cell) compare(all []cell, insert float64) {
	if c.Senders == 0 || c.Pace > 0 {
		return
	}
	peer := telegramChannel
	if c.What == smsChannel {
		peer = smsChannel
	}
	if bare := mean(all, func(o cell) (float64, bool) { return o.PerSecond, o.What == "bare handler, "+peer }); bare > 0 {
		c.PerBare = c.PerSecond / bare
	}
	if c.Engine == onPostgres && insert > 0 {
		c.PerInsert = c.PerSecond / insert
	}
}

// judgeMachine warns when the machine had something else to do.
func (r *report) judgeMachine() {
	most := 0.0
	for _, c := range r.Cells {
		most = max(most, c.Others)
	}
	if most > quiet {
		r.warn("other programs used up to %.0f %% of the machine during a cell: absolute numbers are too low, costs too high", 100*most)
	}
}

func (r *report) judgePostgres(cs []cell) {
	for _, c := range cs {
		r.least(1, "hooks ÷ bare single inserts, "+c.of(), c.PerInsert, leastPerInsert, "%.2f")
	}
	for _, c := range cs {
		r.least(1, "hooks stored per second, "+c.of(), c.PerSecond, leastPerSecond, "%.0f")
	}
	for _, c := range cs {
		r.most(2, "CPU of the gateway per hook, µs, "+c.of(), c.ProgramCPU, mostProgramCPU, "%.0f")
	}
	for _, c := range cs {
		if c.DatabaseCPU > 0 {
			r.most(2, "CPU of Postgres per hook, µs, "+c.of(), c.DatabaseCPU, mostDatabaseCPU, "%.0f")
		}
	}
	for _, c := range cs {
		r.most(3, "allocated per hook, KB, "+c.of(), c.Bytes/1000, mostBytes/1000, "%.1f")
	}
}

func (r *report) judgePaces() {
	for _, c := range r.Cells {
		if limit := mostLate(c.Pace); limit > 0 && c.Engine == onPostgres {
			r.most(4, fmt.Sprintf("p99 at %d/s, ms", c.Pace), c.P99, limit, "%.1f")
		}
	}
}

// of names a load on the hooks.
func (c cell) of() string {
	if c.Senders == 1 {
		return c.What + ", 1 sender"
	}
	return fmt.Sprintf("%s, %d senders", c.What, c.Senders)
}

func (r *report) least(row int, what string, v, limit float64, format string) {
	r.Targets = append(r.Targets, target{Row: row, What: what, Limit: "≥ " + fmt.Sprintf(format, limit), Measured: fmt.Sprintf(format, v), Met: v >= limit})
}

func (r *report) most(row int, what string, v, limit float64, format string) {
	r.Targets = append(r.Targets, target{Row: row, What: what, Limit: "≤ " + fmt.Sprintf(format, limit), Measured: fmt.Sprintf(format, v), Met: v <= limit})
}

// mean gives the mean of what pick takes of the cells, 0 when it takes none.
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
