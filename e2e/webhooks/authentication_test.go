package webhooks

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
)

const (
	minForgeries     = 80
	minUnusual       = 40
	minNaiveAccepted = 100
)

// TestForgedWebhooks_Rejected checks that a running gateway rejects requests that no provider
// made, on both engines. The response must reveal nothing, no row may change and the log may
// contain no secret. The genuine version of each request must then be accepted, so that a gateway
// that rejects everything fails.
func TestForgedWebhooks_Rejected(t *testing.T) {
	t.Parallel()
	rawhttp.ForEachWebhookFixture(t, func(t *testing.T, h *rawhttp.WebhookFixture) {
		all := sample(rawhttp.ForgedRequests(), h)
		before, dump := h.RowCounts(), databaseDump(h, t)
		rejected, naive := 0, 0
		for i, f := range all {
			p := forge(h, f, 1000+i)
			if expectRejected(h, t, f, p, before) {
				rejected++
			}
			if acceptedByNaiveChecks(h, p) {
				naive++
			}
		}
		if now := databaseDump(h, t); now != dump {
			t.Errorf("forged requests changed stored data (-want +got):\n%s",
				cmp.Diff(strings.Split(dump, "\n"), strings.Split(now, "\n")))
		}
		checkLogHasNoSecrets(h, t, 1000+len(all))
		genuine := 0
		for i, f := range all {
			p := rawhttp.NewUnsignedRequest(f.Kind, 1000+i, h.Acme).Sign()
			if expectAccepted(h, t, f.Name, p, rawhttp.StoredMessages(f.Kind)) {
				genuine++
			}
		}
		if h.RowCounts() == before {
			t.Error("RowCounts did not change after genuine requests were accepted")
		}
		t.Logf("forged requests: %d, accepted: %d (by naive checks: %d); genuine requests: %d, rejected: %d",
			len(all), len(all)-rejected, naive, len(all), len(all)-genuine)
		if want := minNaiveAccepted * len(all) / len(rawhttp.ForgedRequests()); naive < want {
			t.Errorf("forged requests accepted by naive checks = %d, want at least %d", naive, want)
		}
		if rejected < minForgeries {
			t.Errorf("rejected forged requests = %d, want at least %d", rejected, minForgeries)
		}
	})
}

// TestUnusualWebhooks_Accepted checks that valid but unusual requests are accepted, and that a
// repeated request is stored once.
func TestUnusualWebhooks_Accepted(t *testing.T) {
	t.Parallel()
	rawhttp.ForEachWebhookFixture(t, func(t *testing.T, h *rawhttp.WebhookFixture) {
		all := sample(rawhttp.UnusualRequests(), h)
		accepted := 0
		for i, u := range all {
			d := rawhttp.NewUnsignedRequest(u.Kind, 5000+i, h.Acme)
			if u.BeforeSigning != nil {
				u.BeforeSigning(h, d)
			}
			p := d.Sign()
			if u.AfterSigning != nil {
				u.AfterSigning(h, p)
			}
			messages := u.StoredMessages(d.Kind)
			if expectAccepted(h, t, u.Name, p, messages) && expectAccepted(h, t, u.Name+", redelivered", p, 0) {
				accepted++
			}
		}
		t.Logf("unusual requests: %d, rejected or stored twice: %d", len(all), len(all)-accepted)
		if accepted < minUnusual {
			t.Errorf("accepted unusual requests = %d, want at least %d", accepted, minUnusual)
		}
	})
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

// forge returns forged request f with message number n.
func forge(h *rawhttp.WebhookFixture, f rawhttp.ForgedRequest, n int) *rawhttp.RawRequest {
	d := rawhttp.NewUnsignedRequest(f.Kind, n, h.Acme)
	if f.BeforeSigning != nil {
		f.BeforeSigning(h, d)
	}
	p := d.Sign()
	if f.AfterSigning != nil {
		f.AfterSigning(h, p)
	}
	return p
}

// expectRejected sends a forged request and reports whether it was rejected with the documented
// status, revealed nothing and changed no row.
func expectRejected(h *rawhttp.WebhookFixture, t *testing.T, f rawhttp.ForgedRequest, p *rawhttp.RawRequest,
	before string) bool {
	t.Helper()
	name := f.Kind + "/" + f.Name
	a := h.Send(t, h.NewCallerAddr(), p)
	ok := true
	if a.Status != f.Status {
		t.Errorf("%s: status = %d %q, want %d", name, a.Status, a.Body, f.Status)
		ok = false
	}
	if !isEmptyResponse(f.Kind, a) {
		t.Errorf("%s: response = %v %q, want an empty one", name, a.Header, a.Body)
		ok = false
	}
	for _, secret := range append(validSignatures(h, p.Unsigned), h.Secrets...) {
		if strings.Contains(a.Dump(), secret) {
			t.Errorf("%s: the response contains a secret or the valid signature", name)
			ok = false
		}
	}
	if now := h.RowCounts(); now != before {
		t.Errorf("%s: row counts =\n%s\nwant them unchanged:\n%s", name, now, before)
		ok = false
	}
	return ok
}

// validSignatures returns the values that must not appear in the response to a forged request: the
// valid signatures of the request and the text of its message.
func validSignatures(h *rawhttp.WebhookFixture, d *rawhttp.UnsignedRequest) (all []string) {
	for _, accounts := range []rawhttp.InstanceAccounts{h.Acme, h.Neighbor} {
		p := rawhttp.NewUnsignedRequest(d.Kind, d.Number, accounts).Sign()
		all = append(all, strings.TrimPrefix(p.Get(p.SignatureHeader()), "v0="))
	}
	return append(all, rawhttp.BodyMarker(d.Number))
}

// isEmptyResponse reports whether a response reveals nothing: it is empty, the empty TwiML
// document, the 404 of an unknown path, or the error with which net/http answers invalid HTTP.
func isEmptyResponse(kind string, a harness.Response) bool {
	channel, _ := rawhttp.SplitKind(kind)
	switch {
	case a.Status == 400 && badRequestPattern.MatchString(a.Body):
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
func expectAccepted(h *rawhttp.WebhookFixture, t *testing.T, name string, p *rawhttp.RawRequest, messages int) bool {
	t.Helper()
	before := h.MessageCount()
	a := h.Send(t, h.NewCallerAddr(), p)
	if a.Status != 200 {
		t.Errorf("%s, genuine: status = %d %q, want 200", name, a.Status, a.Body)
		return false
	}
	if got := h.MessageCount() - before; got != messages {
		t.Errorf("%s, genuine: stored messages = %d, want %d", name, got, messages)
		return false
	}
	return true
}

// databaseDump returns the content of the database and the spool, except for columns that the
// gateway updates by itself.
func databaseDump(h *rawhttp.WebhookFixture, t *testing.T) string {
	t.Helper()
	all, err := harness.DumpFiles(h.SpoolDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range h.Tables() {
		columns := "*"
		switch table {
		case "endpoints":
			columns = "id, mode, address, settings, last_event_at"
		case "api_keys":
			columns = "id, scopes, expires_at, revoked_at"
		}
		rows, err := harness.QueryRows(h.DSN, "select "+columns+" from "+table)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(rows)
		all = fmt.Appendln(all, table, rows)
	}
	return string(all)
}

var (
	longHexPattern    = regexp.MustCompile(`[0-9a-fA-F]{64}`)
	badRequestPattern = regexp.MustCompile(`^400 Bad Request(: [a-z -]+| Header|: [a-zA-Z -]+)?$`)
)

// checkLogHasNoSecrets checks that the debug log contains no secret, no signature and no content
// of a request. It also checks that rejections are logged and that the search finds a planted
// signature.
func checkLogHasNoSecrets(h *rawhttp.WebhookFixture, t *testing.T, until int) {
	t.Helper()
	log := h.Log.String()
	if !strings.Contains(log, "webhook rejected") {
		t.Error("the log contains no rejected webhook")
	}
	if planted := log + harness.SlackSignature("x", "1", "y"); !longHexPattern.MatchString(planted) {
		t.Error("longHexPattern does not match a planted signature")
	}
	if found := longHexPattern.FindString(log); found != "" {
		t.Errorf("the log contains the signature %q", found)
	}
	for _, word := range append([]string{"canary", "first_name", "MessageSid", "v0=", "evil.example"}, h.Secrets...) {
		if strings.Contains(log, word) {
			t.Errorf("the log contains %q, which is a secret or the content of a request", word)
		}
	}
}

// acceptedByNaiveChecks reports whether a request passes common but insufficient checks: the URL
// is built from the request, only the first of several values counts, an instance without a key
// accepts everything, and timestamps are ignored. A forgery that naive checks accept is a
// realistic one.
func acceptedByNaiveChecks(h *rawhttp.WebhookFixture, p *rawhttp.RawRequest) bool {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(p.Encode())))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	accounts, found := naiveInstance(h, r.URL.Path)
	if !found {
		return false
	}
	switch channel, _ := rawhttp.SplitKind(p.Unsigned.Kind); channel {
	case "telegram":
		return strings.HasPrefix(r.Header.Get(rawhttp.TelegramSecretHeader), accounts.TelegramSecret)
	case "slack":
		want := harness.SlackSignature(accounts.SigningSecret, r.Header.Get(rawhttp.SlackTimestampHeader), string(body))
		return strings.EqualFold(r.Header.Get(rawhttp.SlackSignatureHeader), want)
	}
	form, _ := url.ParseQuery(string(body))
	for name, values := range form {
		form[name] = values[:1]
	}
	host, scheme := r.Host, "https"
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
		host = forwarded
	}
	if forwarded := r.Header.Get("X-Forwarded-Proto"); forwarded != "" {
		scheme = forwarded
	}
	want := harness.TwilioSignature(accounts.AuthToken, scheme+"://"+host+r.URL.RequestURI(), form)
	return r.Header.Get(rawhttp.TwilioSignatureHeader) == want
}

// naiveInstance returns the instance whose ID occurs in the path, whatever else the path contains.
func naiveInstance(h *rawhttp.WebhookFixture, path string) (rawhttp.InstanceAccounts, bool) {
	for _, s := range []rawhttp.InstanceAccounts{h.Acme, h.Neighbor, h.OtherAccount, h.Keyless} {
		if strings.Contains(strings.ToLower(path), s.InstanceID) {
			return s, true
		}
	}
	return rawhttp.InstanceAccounts{}, false
}
