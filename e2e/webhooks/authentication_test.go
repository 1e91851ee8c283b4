// Package webhooks tests how a gateway treats webhook requests that are forged, unusual, malformed,
// redelivered, huge or slow.
package webhooks

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

func TestMain(m *testing.M) { harness.RunMain(m, nil) }

// TestForgedWebhooks_Rejected checks that a running gateway rejects requests that no provider
// made, on both engines. The response must reveal nothing, no row may change and the log may
// contain no secret. Genuine requests of each kind must then be accepted, so that a gateway that
// rejects everything fails.
func TestForgedWebhooks_Rejected(t *testing.T) {
	t.Parallel()
	const minRejected, minNaiveAccepted = 80, 100
	longHex := regexp.MustCompile(`[0-9a-fA-F]{64}`)
	forEachEngine(t, func(t *testing.T, h *rawhttp.WebhookFixture) {
		all := sample(rawhttp.ForgedRequests(), h)
		before := databaseDump(h)
		rejected, naive := 0, 0
		for i, f := range all {
			name, p := f.Kind+"/"+f.Name, f.Build(h, 1000+i)
			a := h.Send(h.NewCallerAddr(), p)
			ok := a.Status == f.Status && isEmptyResponse(f.Kind, a)
			if !ok {
				t.Errorf("%s: response = %d %v %q, want %d without content", name, a.Status, a.Header, a.Body, f.Status)
			}
			revealing := append([]string{rawhttp.BodyMarker(1000 + i)}, h.Secrets...)
			for _, accounts := range []rawhttp.InstanceAccounts{h.Acme, h.Neighbor} { // the valid signatures
				valid := rawhttp.NewUnsignedRequest(f.Kind, 1000+i, accounts).Sign()
				revealing = append(revealing, strings.TrimPrefix(valid.Get(valid.SignatureHeader()), "v0="))
			}
			for _, secret := range revealing {
				if strings.Contains(a.Dump(), secret) {
					t.Errorf("%s: the response contains a secret, the text or the valid signature", name)
					ok = false
				}
			}
			if ok {
				rejected++
			}
			if h.PassesNaiveChecks(p) {
				naive++
			}
		}
		if now := databaseDump(h); now != before {
			t.Errorf("forged requests changed stored data (-want +got):\n%s",
				cmp.Diff(strings.Split(before, "\n"), strings.Split(now, "\n")))
		}
		checkNotices(h)
		log := h.Log.String()
		if !strings.Contains(log, "webhook rejected") {
			t.Error("the log contains no rejected webhook")
		}
		if planted := log + harness.SlackSignature("x", "1", "y"); !longHex.MatchString(planted) {
			t.Error("longHex does not match a planted signature")
		}
		if found := longHex.FindString(log); found != "" {
			t.Errorf("the log contains the signature %q", found)
		}
		for _, word := range append([]string{"canary", "first_name", "MessageSid", "v0=", "evil.example"}, h.Secrets...) {
			if strings.Contains(log, word) {
				t.Errorf("the log contains %q, which is a secret or the content of a request", word)
			}
		}
		genuine := map[string]int{}
		for i, f := range all {
			if genuine[f.Kind]++; genuine[f.Kind] <= harness.Scaled(2, len(all)) {
				p := rawhttp.NewUnsignedRequest(f.Kind, 1000+i, h.Acme).Sign()
				expectAccepted(h, "genuine "+f.Kind, p, rawhttp.StoredMessages(f.Kind))
			}
		}
		if databaseDump(h) == before {
			t.Error("databaseDump did not change after genuine requests were accepted")
		}
		t.Logf("forged requests: %d, accepted: %d (by naive checks: %d)", len(all), len(all)-rejected, naive)
		if want := minNaiveAccepted * len(all) / len(rawhttp.ForgedRequests()); naive < want {
			t.Errorf("forged requests accepted by naive checks = %d, want at least %d", naive, want)
		}
		if rejected < minRejected {
			t.Errorf("rejected forged requests = %d, want at least %d", rejected, minRejected)
		}
	})
}

// TestUnusualWebhooks_Accepted checks that valid but unusual requests are accepted, and that a
// repeated request is stored once.
func TestUnusualWebhooks_Accepted(t *testing.T) {
	t.Parallel()
	const minAccepted = 40
	forEachEngine(t, func(t *testing.T, h *rawhttp.WebhookFixture) {
		all := sample(rawhttp.UnusualRequests(), h)
		accepted := 0
		for i, u := range all {
			p := u.Build(h, 5000+i)
			if expectAccepted(h, u.Name, p, u.StoredMessages()) && expectAccepted(h, u.Name+", redelivered", p, 0) {
				accepted++
			}
		}
		t.Logf("unusual requests: %d, rejected or stored twice: %d", len(all), len(all)-accepted)
		if accepted < minAccepted {
			t.Errorf("accepted unusual requests = %d, want at least %d", accepted, minAccepted)
		}
	})
}

// forEachEngine calls test with a gateway on each engine.
func forEachEngine(t *testing.T, test func(t *testing.T, h *rawhttp.WebhookFixture)) {
	for _, engine := range []harness.Engine{harness.SQLite, harness.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, rawhttp.NewWebhookFixture(t, engine))
		})
	}
}

// sample returns all cases or, on Postgres in a short run, every third: authentication does not
// depend on the engine.
func sample[T any](all []T, h *rawhttp.WebhookFixture) (picked []T) {
	if harness.FullRun() || !h.IsPostgres() {
		return all
	}
	for i := 0; i < len(all); i += 3 {
		picked = append(picked, all[i])
	}
	return picked
}

var badRequest = regexp.MustCompile(`^400 Bad Request(: [a-z -]+| Header|: [a-zA-Z -]+)?$`)

// isEmptyResponse reports whether a response reveals nothing: it is empty, the empty TwiML
// document, the 404 of an unknown path, or the error with which net/http answers invalid HTTP.
func isEmptyResponse(kind string, a harness.Response) bool {
	channel, _ := rawhttp.SplitKind(kind)
	switch {
	case a.Status == 400 && badRequest.MatchString(a.Body):
		return true
	case a.Status == 501 && (a.Body == "501 Not Implemented: unsupported transfer encoding" ||
		a.Body == "Unsupported transfer encoding"):
		return true
	case a.Status == 404 && a.Body == `{"detail":"Not Found"}`: // not the path of a webhook
		return true
	case channel == "sms" || channel == "whatsapp":
		const emptyTwiML = `<?xml version="1.0" encoding="UTF-8"?><Response/>`
		return (a.Body == emptyTwiML || a.Body == "") && strings.HasPrefix(a.Header.Get("Content-Type"), "text/xml")
	}
	return a.Body == ""
}

// expectAccepted sends a genuine request and reports whether it was accepted and stored the given
// number of messages.
func expectAccepted(h *rawhttp.WebhookFixture, name string, p *rawhttp.RawRequest, messages int) bool {
	h.T.Helper()
	before := h.MessageCount()
	a := h.Send(h.NewCallerAddr(), p)
	if got := h.MessageCount() - before; a.Status != 200 || got != messages {
		h.T.Errorf("%s: status = %d %q with %d stored messages, want 200 with %d", name, a.Status, a.Body, got, messages)
		return false
	}
	return true
}

// checkNotices checks that rejected requests leave one notice for an endpoint, which contains nothing
// of a request and no secret.
func checkNotices(h *rawhttp.WebhookFixture) {
	h.T.Helper()
	notices := h.QueryTexts(`select * from endpoint_notices`)
	endpoints := h.QueryInt(`select count(*) from endpoints`)
	if len(notices) == 0 || len(notices) > endpoints {
		h.T.Errorf("%d notices for %d endpoints, want one for each at most", len(notices), endpoints)
	}
	for _, word := range append([]string{"canary", "evil.example"}, h.Secrets...) {
		if strings.Contains(strings.Join(notices, "\n"), word) {
			h.T.Errorf("a notice contains %q, which is a secret or the content of a request", word)
		}
	}
}

// databaseDump returns the content of the database and the spool, except for columns that the
// gateway updates by itself.
func databaseDump(h *rawhttp.WebhookFixture) string {
	h.T.Helper()
	all, err := harness.DumpFiles(h.Settings.DataDir + "/spool")
	if err != nil {
		h.T.Fatal(err)
	}
	for _, table := range h.Tables() {
		columns := "*"
		switch table {
		case "endpoints":
			columns = "id, mode, address, settings, last_event_at"
		case "api_keys":
			columns = "id, scopes, expires_at, revoked_at"
		case "replicas": // changes while the gateway runs
			columns = "holder"
		case "endpoint_notices": // see checkNotices
			continue
		}
		rows := h.QueryTexts("select " + columns + " from " + table)
		slices.Sort(rows)
		all = fmt.Appendln(all, table, rows)
	}
	return string(all)
}
