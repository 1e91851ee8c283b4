package store

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hydragate/gateway"
)

// TestReplicaMonitor tests which other gateways are reported: running ones with another store of
// claim codes, and any if there should be none.
func TestReplicaMonitor(t *testing.T) {
	const same, other = "codes", "other codes"
	for name, c := range map[string]struct {
		single  bool
		codes   string // of the other gateway
		expired bool   // the other gateway was killed a while ago
		late    bool   // the other gateway was recorded before and not since
		stopped bool   // the other gateway has stopped
		want    bool
	}{
		"other codes":             {codes: other, want: true},
		"same codes":              {codes: same},
		"same codes, single":      {single: true, codes: same, want: true},
		"other codes, single":     {single: true, codes: other, want: true},
		"killed before the start": {codes: other, late: true},
		"stopped":                 {codes: other, stopped: true},
		"killed a while ago":      {codes: other, expired: true},
	} {
		t.Run(name, func(t *testing.T) {
			forEachEngine(t, func(t *testing.T, s *Store) {
				var log bytes.Buffer
				monitor := func(holder, codes string, single bool) *gateway.ReplicaMonitor {
					return gateway.NewReplicaMonitor(&gateway.ReplicaMonitor{
						Store: s, Holder: holder, Single: single, Log: slog.New(slog.NewTextHandler(&log, nil)),
						CodeStore: func(context.Context) (string, error) { return codes, nil },
					}, prometheus.NewRegistry())
				}
				here, there := monitor("here", same, c.single), monitor("other", c.codes, false)
				if c.late {
					there.Check(t.Context())
					mustExec(t, s, `update replicas set seen_at = `+s.dialect.NowPlus(-1)+` where holder = 'other'`)
				}
				here.Check(t.Context())
				if !c.late {
					mustExec(t, s, `update replicas set started_at = `+s.dialect.NowPlus(-1)+` where holder = 'here'`)
					there.Check(t.Context())
				}
				if c.expired {
					mustExec(t, s, `update replicas set seen_at = `+s.dialect.NowPlus(-60)+` where holder = 'other'`)
				}
				if c.stopped {
					must(t, s.RemoveReplica(t.Context(), "other"))
				}
				log.Reset()
				here.Check(t.Context())
				if here.HasConflict() != c.want {
					t.Errorf("HasConflict() = %v, want %v", here.HasConflict(), c.want)
				}
				if logged := strings.Contains(log.String(), "another gateway uses the same database"); logged != c.want {
					t.Errorf("log = %q, want a report: %v", log.String(), c.want)
				}
				log.Reset()
				here.Check(t.Context())
				if log.Len() > 0 {
					t.Errorf("log after the second check = %q, want nothing", log.String())
				}
				must(t, s.RemoveReplica(t.Context(), "other"))
				here.Check(t.Context())
				if here.HasConflict() || strings.Contains(log.String(), "ended") != c.want {
					t.Errorf("after the end: HasConflict() = %v, log = %q", here.HasConflict(), log.String())
				}
			})
		})
	}
}
