package webhook

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hydragate/adapters"
)

// Metrics counts webhook requests. A nil *Metrics records nothing.
type Metrics struct {
	requests *prometheus.CounterVec
}

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if
// reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		requests: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_hooks_total",
			Help: "Webhook requests by result: stored, unstored, or the HTTP status of a rejected request.",
		}, []string{"channel", "result"}),
	}
}

func (m *Metrics) recordAccepted(channel adapters.Channel, err error) {
	result := "stored"
	if err != nil {
		result = "unstored"
	}
	m.record(string(channel), result)
}

func (m *Metrics) recordRejected(channel string, status int) { m.record(channel, strconv.Itoa(status)) }

func (m *Metrics) record(channel, result string) {
	if m != nil {
		m.requests.WithLabelValues(channel, result).Inc()
	}
}
