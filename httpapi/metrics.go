package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestMetrics count requests by route, method and status, all of closed sets.
type requestMetrics struct {
	total *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newRequestMetrics(reg *prometheus.Registry) *requestMetrics {
	return &requestMetrics{
		total: registered(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hydragate_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "method", "status"})),
		took: registered(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hydragate_http_request_duration_seconds", Help: "How long HTTP requests took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "status"})),
	}
}

// registered gives c, or the collector of the same name that was there before.
func registered[C prometheus.Collector](reg *prometheus.Registry, c C) C {
	var before prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &before) {
		return before.ExistingCollector.(C)
	}
	return c
}

func (m *requestMetrics) count(route, method string, status int, took time.Duration) {
	code := strconv.Itoa(status)
	m.total.WithLabelValues(route, methodOf(method), code).Inc()
	m.took.WithLabelValues(route, code).Observe(took.Seconds())
}

// methodOf gives a method by a name of a closed set.
func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "OTHER"
}
