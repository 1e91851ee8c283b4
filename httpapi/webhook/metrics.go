package webhook

import (
	"github.com/prometheus/client_golang/prometheus"
)

var requestsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "hydragate_hooks_total", Help: "Calls of providers, by what became of them.",
}, []string{"channel", "result"})

// Collectors are the metrics of the hooks, to be registered once.
func Collectors() []prometheus.Collector { return []prometheus.Collector{requestsTotal} }
