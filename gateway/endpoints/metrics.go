package endpoints

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hydragate/gateway"
)

// Metrics reports which endpoints work. A nil *Metrics records nothing.
type Metrics struct {
	up *prometheus.GaugeVec
}

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if reg
// is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		up: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "hydragate_channel_up",
			Help: "Whether a channel works as its provider says: 1 for the status active, 0 for error.",
		}, []string{"channel", "instance"}),
	}
}

// recordStatuses replaces all values. The same series are exported by all replicas.
func (m *Metrics) recordStatuses(states []gateway.EndpointState) {
	if m == nil {
		return
	}
	m.up.Reset()
	for _, s := range states {
		up := 0.0
		if s.Status == gateway.EndpointActive {
			up = 1
		}
		m.up.WithLabelValues(string(s.Channel), s.InstanceID).Set(up)
	}
}
