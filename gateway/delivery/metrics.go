package delivery

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var deliveryAttempts = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydragate_deliveries_total", Help: "Attempts to post an event, by the class of the answer."}, []string{"answer"})

// Collectors are the package's metrics, to be registered once.
func Collectors() []prometheus.Collector { return []prometheus.Collector{deliveryAttempts} }

func statusClass(status int, err error) string {
	if status == 0 && err != nil {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}
