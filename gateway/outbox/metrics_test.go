package outbox

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hydragate/adapters"
	"hydragate/gateway"
)

func TestMetrics_RecordAttempt(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for _, tt := range []struct {
		result gateway.SendResult
		want   string
	}{
		{gateway.SendResult{Status: adapters.Sent}, "sent"},
		{gateway.SendResult{Status: adapters.Failed, Reason: adapters.Blocked}, "blocked"},
		{gateway.SendResult{Status: adapters.Queued, Reason: adapters.Throttled}, "throttled"},
	} {
		tt.result.Row.Channel = adapters.SMS
		m.recordAttempt(tt.result)
		// This adds a series if recordAttempt used other labels.
		_ = m.attempts.WithLabelValues("sms", tt.want)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || families[0].GetName() != "hydragate_sends_total" || len(families[0].GetMetric()) != 3 {
		t.Errorf("Gather() = %v, want hydragate_sends_total with one series per result", families)
	}
	var none *Metrics
	none.recordAttempt(gateway.SendResult{}) // must not panic
}
