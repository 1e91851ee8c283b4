package outbox

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hydragate/gateway"
)

// Metrics counts attempts to send replies. A nil *Metrics records nothing.
type Metrics struct {
	attempts *prometheus.CounterVec
}

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if
// reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		attempts: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_sends_total",
			Help: "Attempts to send a reply, by result.",
		}, []string{"channel", "result"}),
	}
}

// recordAttempt counts an attempt under the reason of its failure, or under its status if it
// has none.
func (m *Metrics) recordAttempt(r gateway.SendResult) {
	if m != nil {
		m.attempts.WithLabelValues(string(r.Row.Channel), cmp.Or(string(r.Reason), string(r.Status))).Inc()
	}
}
