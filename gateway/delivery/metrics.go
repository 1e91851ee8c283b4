package delivery

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts delivery attempts. A nil *Metrics records nothing.
type Metrics struct {
	attempts     *prometheus.CounterVec
	answerErrors prometheus.Counter
}

// NewMetrics returns the metrics of the package, registered with reg. They are not registered if
// reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		attempts: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_deliveries_total",
			Help: "Attempts to deliver an event, by the class of the HTTP status; none without a response.",
		}, []string{"answer"}),
		answerErrors: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "hydragate_answer_errors_total",
			Help: "Responses of applications that were not understood, in whole or in part.",
		}),
	}
}

func (m *Metrics) recordAttempt(status int) {
	if m != nil {
		m.attempts.WithLabelValues(statusClass(status)).Inc()
	}
}

func (m *Metrics) recordAnswerErrors() {
	if m != nil {
		m.answerErrors.Inc()
	}
}

// statusClass returns the class of an HTTP status, for example "2xx", or "none" if there was no
// response.
func statusClass(status int) string {
	if status == 0 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}
