package webhook

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	knownInstance   = "01a2012b-02ef-71ed-ade5-af96a0001aeb"
	unknownInstance = "01a2012b-02ef-71ed-ade5-af96a0001aec"
	publicURL       = "https://gate.example.com/hooks/slack/" + knownInstance
)

// oneEndpoint is an EndpointSource with one endpoint.
type oneEndpoint struct{}

func (oneEndpoint) Endpoint(_ context.Context, instance string, c adapters.Channel) (adapters.Endpoint, error) {
	if instance != knownInstance {
		return adapters.Endpoint{}, gateway.ErrNoEndpoint
	}
	return adapters.Endpoint{ID: "e", InstanceID: instance, Channel: c, WebhookURL: publicURL}, nil
}

func (o oneEndpoint) Refresh(ctx context.Context, instance string, c adapters.Channel) (adapters.Endpoint, error) {
	return o.Endpoint(ctx, instance, c)
}

// refusingAdapter rejects all requests with an error, or accepts them with a notice.
type refusingAdapter struct {
	adapters.Adapter
	err error
}

func (a refusingAdapter) Receive(*http.Request, adapters.Endpoint, string) (adapters.Inbound, error) {
	return adapters.Inbound{
		Notices: []adapters.ProviderNotice{{Reason: "app_uninstalled"}},
		Ack:     func(w http.ResponseWriter, _ error) { w.WriteHeader(http.StatusOK) },
	}, a.err
}

type noticeLog []gateway.Notice

func (l *noticeLog) Notify(_ context.Context, _ adapters.Endpoint, n gateway.Notice) {
	*l = append(*l, n)
}

// TestHandler_Refusals checks that the log, the metric and staff learn why a request was refused.
func TestHandler_Refusals(t *testing.T) {
	for _, tt := range []struct {
		name, method, path string
		err                error
		status             int
		reason, instance   string
		notice             string
	}{
		{
			"signature", "POST", "/hooks/slack/" + knownInstance + "/events", adapters.ErrForged, 403, "signature",
			knownInstance,
			"signature",
		},
		{
			"stale", "POST", "/hooks/slack/" + knownInstance + "/events", adapters.ErrStale, 403, "stale", knownInstance,
			"stale",
		},
		{
			"other endpoint", "POST", "/hooks/slack/" + knownInstance + "/events", adapters.ErrOtherEndpoint, 403,
			"not_for_this_endpoint", knownInstance, "not_for_this_endpoint",
		},
		{
			"malformed", "POST", "/hooks/slack/" + knownInstance + "/events", adapters.ErrMalformed, 403, "malformed",
			knownInstance, "malformed",
		},
		{
			"too large", "POST", "/hooks/slack/" + knownInstance + "/events", adapters.ErrTooLarge, 413, "too_large",
			knownInstance, "too_large",
		},
		{
			"unknown webhook", "POST", "/hooks/slack/" + knownInstance + "/events", adapters.ErrUnknownWebhook, 404,
			"unknown_webhook", knownInstance, "unknown_webhook",
		},
		{"unknown instance", "POST", "/hooks/slack/" + unknownInstance + "/events", nil, 404, "unknown_instance", "", ""},
		{"no UUID", "POST", "/hooks/slack/x/events", nil, 404, "unknown_instance", "", ""},
		{"unknown channel", "POST", "/hooks/fax/" + knownInstance, nil, 404, "unknown_channel", "", ""},
		{"method", "PUT", "/hooks/slack/" + knownInstance + "/events", nil, 405, "method", "", ""},
		{"accepted", "POST", "/hooks/slack/" + knownInstance + "/events", nil, 200, "", "", "app_uninstalled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			var notices noticeLog
			reg := prometheus.NewRegistry()
			h := &Handler{
				Adapters:  map[adapters.Channel]adapters.Adapter{adapters.Slack: refusingAdapter{err: tt.err}},
				Endpoints: oneEndpoint{}, Inbox: acceptAll{}, Notices: &notices, Metrics: NewMetrics(reg),
				Log: slog.New(slog.NewTextHandler(&out, nil)),
			}
			mux := http.NewServeMux()
			h.Mount(mux)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader("{}")))
			if w.Code != tt.status {
				t.Errorf("status = %d, want %d", w.Code, tt.status)
			}
			got := ""
			if len(notices) > 0 {
				got = notices[0].Reason
			}
			if got != tt.notice {
				t.Errorf("notice = %q, want %q", got, tt.notice)
			}
			if tt.reason == "" {
				return
			}
			channel := "slack"
			if strings.Contains(tt.path, "fax") {
				channel = "none"
			}
			page := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
			promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(page, r)
			series := fmt.Sprintf(
				"hydragate_hooks_refused_total{channel=%q,instance=%q,reason=%q} 1",
				channel,
				tt.instance,
				tt.reason,
			)
			if !strings.Contains(page.Body.String(), series) {
				t.Errorf("metrics do not contain %s", series)
			}
			wants := []string{"reason=" + tt.reason, "request_id=" + w.Header().Get("X-Request-Id")}
			if tt.instance != "" {
				wants = append(wants, "instance="+knownInstance, "url="+publicURL+"/events")
			}
			for _, want := range wants {
				if !strings.Contains(out.String(), want) {
					t.Errorf("log %q does not contain %q", out.String(), want)
				}
			}
		})
	}
}
