package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/app/tracetest"
)

var claimCodePattern = regexp.MustCompile(`\b[BCDFGHJKLMNPQRSTVWXZ]{3}-?[BCDFGHJKLMNPQRSTVWXZ]{3}\b`)

// TestTracing_DemoScript plays the demo's story with a collector beside it: every kind
// of work has its span, and nothing that a person wrote or was told is in any.
func TestTracing_DemoScript(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	c := tracetest.NewCollector(t)
	var headers sync.Map // of what the agent was sent
	told := &triggerBuffer{}
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d := &Environment{Console: app.Console{Out: told, Err: io.Discard}, Providers: p, App: NewSampleApp()}
	agent, err := simulator.StartServer(anyPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers.Store(r.Header.Get("Traceparent"), true)
		d.App.ServeHTTP(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	d.AppURL = agent.URL
	s := (&Options{Script: true, LogLevel: "error"}).GatewaySettings(t.TempDir(), p)
	s.OTLPEndpoint = c.URL
	if err := d.RunWithGateway(ctx, s, d.runScript); err != nil {
		t.Fatal(err)
	}

	for _, want := range []struct{ name, attribute, value string }{
		{"POST /v1/customers/{customer_id}/identities/{identity_id}/claim-code", "http.route", "/v1/customers/{customer_id}/identities/{identity_id}/claim-code"},
		{"POST /v1/customers/{customer_id}/identities/{identity_id}/claim-code", "url.path", "/v1/customers/{customer_id}/identities/{identity_id}/claim-code"},
		{"POST /hooks/{channel}/{instance_id}", "hydragate.instance.id", d.InstanceID},
		{"process inbox", "hydragate.outcome", "claimed"},
		{"process inbox", "hydragate.outcome", "declined"},
		{"process inbox", "hydragate.channel", "slack"},
		{"POST", "hydragate.outcome", "delivered"},
		{"POST", "hydragate.event.type", "identity.verified"},
		{"send outbox", "hydragate.outcome", "sent"},
	} {
		if len(c.FindSpans(want.name, want.attribute, want.value)) == 0 {
			t.Errorf("no span %q with %s %q", want.name, want.attribute, want.value)
		}
	}
	for _, s := range c.FindSpans("POST", "", "") {
		if _, got := headers.Load("00-" + hex.EncodeToString(s.TraceId) + "-" + hex.EncodeToString(s.SpanId) + "-01"); !got {
			t.Errorf("the agent was not told of trace %x", s.TraceId)
		}
	}

	codes := claimCodePattern.FindAllString(told.String(), -1)
	if len(codes) < 3 {
		t.Fatal("the story has no codes; the canary below would sing of nothing")
	}
	secrets := []string{"What is my balance?", "1,250.00", "That code did not work", d.API.Key, p.TelegramToken, p.TwilioToken, "steve@"}
	for _, code := range codes {
		secrets = append(secrets, code, strings.ReplaceAll(code, "-", ""))
	}
	for _, s := range secrets {
		if s != "" && bytes.Contains(c.Raw, []byte(s)) {
			t.Errorf("%q is in a trace", s)
		}
	}
}
