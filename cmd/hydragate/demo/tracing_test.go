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

// TestTracing_DemoScript plays the script with a collector. Every kind of work must have a span,
// and no span may contain a message, a reply or a secret. It is not parallel, because the provider of
// tracers is global.
func TestTracing_DemoScript(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	c := tracetest.NewCollector(t)
	var headers sync.Map // traceparent headers that the application received
	out := &triggerBuffer{}
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d := &Environment{Console: app.Console{Out: out, Err: io.Discard}, Providers: p, App: NewSampleApp()}
	application, err := simulator.StartServer(anyPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers.Store(r.Header.Get("Traceparent"), true)
		d.App.ServeHTTP(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer application.Close()
	d.AppURL = application.URL
	s := (&Options{Script: true, LogLevel: "error"}).GatewaySettings(t.TempDir(), p)
	s.OTLPEndpoint = c.URL
	if err := d.RunWithGateway(ctx, s, d.runScript); err != nil {
		t.Fatal(err)
	}

	const codeRoute = "/v1/customers/{customer_id}/identities/{identity_id}/claim-code"
	for _, want := range []struct{ name, attribute, value string }{
		{"POST " + codeRoute, "http.route", codeRoute},
		{"POST " + codeRoute, "url.path", codeRoute},
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
			t.Errorf("the application did not receive trace %x", s.TraceId)
		}
	}

	codes := claimCodePattern.FindAllString(out.String(), -1)
	if len(codes) < 3 {
		t.Fatal("the script printed no codes, so the check below would check nothing")
	}
	secrets := []string{
		"What is my balance?",
		"1,250.00",
		"That code did not work",
		d.API.Key,
		p.TelegramToken,
		p.TwilioToken,
		"steve@",
	}
	for _, code := range codes {
		secrets = append(secrets, code, strings.ReplaceAll(code, "-", ""))
	}
	for _, s := range secrets {
		if s != "" && bytes.Contains(c.Raw, []byte(s)) {
			t.Errorf("a span contains %q", s)
		}
	}
}
