package gateway

import "github.com/prometheus/client_golang/prometheus"

// Counters of the gateway; labels come from closed sets.
var (
	inboxStored   = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_messages_stored_total", Help: "Inbound messages stored."})
	inboxRepeated = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydragate_messages_repeated_total", Help: "Inbound messages that were stored already."})
	worked        = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_messages_worked_total", Help: "Inbound messages settled, by outcome."}, []string{"channel", "outcome"})
	sends         = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_sends_total", Help: "Attempts to send a reply, by result."}, []string{"channel", "result"})
)

// Collectors are the gateway's metrics, to be registered once.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{inboxStored, inboxRepeated, worked, sends}
}
