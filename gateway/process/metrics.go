package process

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hydragate/adapters"
)

// Metrics counts processed messages. A nil *Metrics records nothing.
type Metrics struct {
	processed *prometheus.CounterVec
}

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if
// reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		processed: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_messages_worked_total",
			Help: "Inbound messages processed, by outcome.",
		}, []string{"channel", "outcome"}),
	}
}

func (m *Metrics) recordProcessed(channel adapters.Channel, outcome string) {
	if m != nil {
		m.processed.WithLabelValues(string(channel), outcome).Inc()
	}
}
