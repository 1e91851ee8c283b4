package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Counters of the gateway; labels come from closed sets.
var (
	MessagesStored    = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_messages_stored_total", Help: "Inbound messages stored."})
	MessagesDuplicate = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_messages_repeated_total", Help: "Inbound messages that were stored already."})
	MessagesProcessed = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_messages_worked_total", Help: "Inbound messages settled, by outcome."}, []string{"channel", "outcome"})
	SendAttempts      = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_sends_total", Help: "Attempts to send a reply, by result."}, []string{"channel", "result"})

	SpoolKept     = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_spool_kept_total", Help: "Messages kept on this machine because the database could not store them."})
	SpoolFailed   = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_spool_failed_total", Help: "Messages that neither the database nor the spool could keep; their providers were told so."})
	SpoolReplayed = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_spool_replayed_total", Help: "Messages of the spool that the database has now."})
	SpoolDropped  = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_spool_dropped_total", Help: "Messages of the spool that are not stored, by why."}, []string{"reason"})
	SpoolPending  = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydragate_spool_messages", Help: "Messages in the spool."})

	MessagesUnprocessed = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydragate_messages_unworked", Help: "Messages that wait to be worked, in all replicas, counted up to the limit."})
	BackpressureActive  = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydragate_pressure", Help: "1 while providers are asked to wait because too much waits here."})

	BackfillRuns     = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_backfills_total", Help: "Looks into the logs of providers for messages that never came, by result."}, []string{"channel", "result"})
	BackfillMessages = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_backfilled_messages_total", Help: "Messages found only in the log of their provider."}, []string{"channel"})
)

// Collectors are the gateway's metrics, to be registered once.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{MessagesStored, MessagesDuplicate, MessagesProcessed, SendAttempts,
		SpoolKept, SpoolFailed, SpoolReplayed, SpoolDropped, SpoolPending, MessagesUnprocessed, BackpressureActive, BackfillRuns, BackfillMessages}
}
