package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hydragate/adapters"
)

// Metrics counts received messages and reports the state of the spool and of backpressure.
// A nil *Metrics records nothing.
type Metrics struct {
	stored, duplicate prometheus.Counter

	spooled, spoolFailed, spoolReplayed prometheus.Counter
	spoolDropped                        *prometheus.CounterVec
	spoolPending                        prometheus.Gauge

	unprocessed, backpressure prometheus.Gauge

	backfills, backfilled *prometheus.CounterVec
}

// A dropReason says why a spooled message was not stored. It is a label value of
// hydragate_spool_dropped_total.
type dropReason string

const (
	dropQuarantined     dropReason = "quarantined"
	dropEndpointRemoved dropReason = "endpoint removed"
	dropCredentialEnded dropReason = "credential ended"
	dropSenderErased    dropReason = "sender erased"
)

// Results of a back-fill besides the adapters.Reason of a provider's error.
const (
	backfillDone        = "done"
	backfillStoreFailed = "store"
)

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if
// reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &Metrics{
		stored:    counter("hydragate_messages_stored_total", "Inbound messages stored."),
		duplicate: counter("hydragate_messages_repeated_total", "Inbound messages dropped as duplicates."),

		spooled: counter("hydragate_spool_kept_total",
			"Messages spooled on this machine because the database could not store them."),
		spoolFailed: counter("hydragate_spool_failed_total",
			"Messages rejected because neither the database nor the spool could store them."),
		spoolReplayed: counter("hydragate_spool_replayed_total", "Spooled messages stored in the database."),
		spoolDropped:  vec("hydragate_spool_dropped_total", "Spooled messages not stored, by reason.", "reason"),
		spoolPending:  gauge("hydragate_spool_messages", "Messages in the spool."),

		unprocessed: gauge("hydragate_messages_unworked",
			"Messages waiting to be processed by any replica, counted up to the limit."),
		backpressure: gauge("hydragate_pressure", "1 while new messages are refused because of overload, 0 otherwise."),

		backfills: vec("hydragate_backfills_total",
			"Searches of provider logs for missing messages, by result.", "channel", "result"),
		backfilled: vec("hydragate_backfilled_messages_total",
			"Missing messages stored from provider logs.", "channel"),
	}
}

// recordStored counts the messages of one commit.
func (m *Metrics) recordStored(stored, duplicate int) {
	if m != nil {
		m.stored.Add(float64(stored))
		m.duplicate.Add(float64(duplicate))
	}
}

func (m *Metrics) recordSpooled() {
	if m != nil {
		m.spooled.Inc()
	}
}

func (m *Metrics) recordSpoolFailure() {
	if m != nil {
		m.spoolFailed.Inc()
	}
}

func (m *Metrics) recordReplayed(n int) {
	if m != nil {
		m.spoolReplayed.Add(float64(n))
	}
}

func (m *Metrics) recordDropped(reason dropReason) {
	if m != nil {
		m.spoolDropped.WithLabelValues(string(reason)).Inc()
	}
}

func (m *Metrics) setSpoolPending(n int64) {
	if m != nil {
		m.spoolPending.Set(float64(n))
	}
}

func (m *Metrics) setUnprocessed(n int) {
	if m != nil {
		m.unprocessed.Set(float64(n))
	}
}

func (m *Metrics) setBackpressure(active bool) {
	switch {
	case m == nil:
	case active:
		m.backpressure.Set(1)
	default:
		m.backpressure.Set(0)
	}
}

// recordBackfill counts one back-fill. The result is a constant above or an adapters.Reason.
func (m *Metrics) recordBackfill(channel adapters.Channel, result string) {
	if m != nil {
		m.backfills.WithLabelValues(string(channel), result).Inc()
	}
}

func (m *Metrics) recordBackfilled(channel adapters.Channel, stored int) {
	if m != nil {
		m.backfilled.WithLabelValues(string(channel)).Add(float64(stored))
	}
}
