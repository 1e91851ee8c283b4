package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydragate/adapters"
)

// A Replica is a running gateway.
type Replica struct {
	Holder    string // its name, as in leases
	CodeStore string // ID of the store that holds its claim codes
}

// A ReplicaStore records which gateways use the database.
type ReplicaStore interface {
	// TouchReplica records that r is running. It returns the others that have been seen since r
	// was recorded first, and within the last ReplicaTimeout.
	TouchReplica(ctx context.Context, r Replica) (others []Replica, err error)
	// RemoveReplica records that a gateway has stopped.
	RemoveReplica(ctx context.Context, holder string) error
}

const (
	// ReplicaTimeout is how long a gateway counts as running after it was seen.
	ReplicaTimeout  = 3 * replicaInterval
	replicaInterval = 5 * time.Second
	// conflictLogInterval is the time between two log lines about the same conflict.
	conflictLogInterval = 10 * time.Minute
)

// A ReplicaMonitor reports other gateways that use the same database and do not share the claim
// codes of this one, so that each of them rejects valid codes of the others.
type ReplicaMonitor struct {
	Store  ReplicaStore
	Holder string
	// CodeStore returns the ID of the store of claim codes.
	CodeStore func(ctx context.Context) (string, error)
	// Single reports all other gateways, because the operator says that there are none.
	Single bool
	Log    *slog.Logger

	conflicts atomic.Int64
	logged    time.Time
}

// NewReplicaMonitor returns m with its metric registered.
func NewReplicaMonitor(m *ReplicaMonitor, reg prometheus.Registerer) *ReplicaMonitor {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hydragate_replica_conflicts",
		Help: "Other running gateways that do not share the claim codes of this one, or should not run.",
	}, func() float64 { return float64(m.conflicts.Load()) }))
	return m
}

// HasConflict reports whether such a gateway was running at the last check.
func (m *ReplicaMonitor) HasConflict() bool { return m.conflicts.Load() > 0 }

// Run checks every few seconds until ctx ends.
func (m *ReplicaMonitor) Run(ctx context.Context) {
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = m.Store.RemoveReplica(stop, m.Holder) // otherwise, it expires
	}()
	for {
		m.Check(ctx)
		if adapters.Sleep(ctx, replicaInterval) != nil {
			return
		}
	}
}

// Check records this gateway and looks for others. If the database or the code store is unavailable,
// the previous result remains.
func (m *ReplicaMonitor) Check(ctx context.Context) {
	codes, err := m.CodeStore(ctx)
	if err != nil {
		return
	}
	others, err := m.Store.TouchReplica(ctx, Replica{Holder: m.Holder, CodeStore: codes})
	if err != nil {
		m.Log.DebugContext(ctx, "record replica failed", "error", err)
		return
	}
	var conflicting []string
	for _, o := range others {
		if m.Single || o.CodeStore != codes {
			conflicting = append(conflicting, o.Holder)
		}
	}
	before := m.conflicts.Swap(int64(len(conflicting)))
	switch {
	case len(conflicting) == 0 && before > 0:
		m.Log.InfoContext(ctx, "replica conflict ended")
	case len(conflicting) > 0 && (before == 0 || time.Since(m.logged) > conflictLogInterval):
		m.logged = time.Now()
		m.Log.ErrorContext(ctx, "another gateway uses the same database with other claim codes, "+
			"so valid codes are rejected: stop it, or give all the same HYDRAGATE_REDIS_URL and no HYDRAGATE_SINGLE_REPLICA",
			"replicas", conflicting)
	}
}
