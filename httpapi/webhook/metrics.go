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
	refused  *prometheus.CounterVec
}

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if
// reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		requests: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_hooks_total",
			Help: "Webhook requests by result: stored, unstored, or the HTTP status of a rejected request.",
		}, []string{"channel", "result"}),
		refused: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_hooks_refused_total",
			Help: "Rejected webhook requests by reason. The instance is empty if it does not have the channel.",
		}, []string{"channel", "instance", "reason"}),
	}
}

func (m *Metrics) recordAccepted(channel adapters.Channel, err error) {
	result := "stored"
	if err != nil {
		result = "unstored"
	}
	m.record(string(channel), result)
}

// recordRejected counts a rejected request. instance must be empty unless it has the channel, so that
// strangers cannot create series.
func (m *Metrics) recordRejected(channel, instance string, status int, reason string) {
	m.record(channel, strconv.Itoa(status))
	if m != nil {
		m.refused.WithLabelValues(channel, instance, reason).Inc()
	}
}

func (m *Metrics) record(channel, result string) {
	if m != nil {
		m.requests.WithLabelValues(channel, result).Inc()
	}
}
