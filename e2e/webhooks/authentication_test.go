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

// TestForgedWebhooks_Rejected sends requests that no provider made to the whole program, on
// both engines. Each is answered with next to nothing and leaves nothing behind: no row
// in any table, no byte that changed, nothing to learn in the log. Then each is sent
// once more as the provider would have made it, and is taken: what refuses everything
// does not pass here.
func TestForgedWebhooks_Rejected(t *testing.T) {
	t.Parallel()
	rawhttp.ForEachWebhookFixture(t, func(t *testing.T, h *rawhttp.WebhookFixture) {
		all := sample(rawhttp.ForgedRequests(), h)
		before, kept := h.RowCounts(), databaseDump(h, t)
		refused, naive := 0, 0
		for i, f := range all {
			p := forge(h, f, 1000+i)
			if expectRejected(h, t, f, p, before) {
				refused++
			}
			if acceptedByNaiveChecks(h, p) {
				naive++
			}
		}
		if now := databaseDump(h, t); now != kept {
			t.Errorf("the forged requests changed something that is kept:\n%s", cmp.Diff(strings.Split(kept, "\n"), strings.Split(now, "\n")))
		}
		checkLogHasNoSecrets(h, t, 1000+len(all))
		genuine := 0
		for i, f := range all {
			if expectAccepted(h, t, f.Name, rawhttp.NewUnsignedRequest(f.Kind, 1000+i, h.Acme).Sign(), rawhttp.StoredMessages(f.Kind)) {
				genuine++
			}
		}
		if h.RowCounts() == before {
			t.Error("the count of rows is blind: it does not see what was taken")
		}
		t.Logf("forged requests: %d, accepted: %d (by checks as they are often written: %d); the same made rightly: %d, refused: %d", len(all), len(all)-refused, naive, len(all), len(all)-genuine)
		if naive < minNaiveAccepted*len(all)/len(rawhttp.ForgedRequests()) {
			t.Errorf("checks as they are often written would take only %d of the forgeries: they are too easy", naive)
		}
		if refused < minForgeries {
			t.Errorf("only %d forgeries were refused; want at least %d", refused, minForgeries)
		}
	})
}

// TestUnusualWebhooks_Accepted sends requests as providers make them on odd days. Each
// is taken, and stored once however often it comes.
func TestUnusualWebhooks_Accepted(t *testing.T) {
	t.Parallel()
	rawhttp.ForEachWebhookFixture(t, func(t *testing.T, h *rawhttp.WebhookFixture) {
		all := sample(rawhttp.UnusualRequests(), h)
		taken := 0
		for i, o := range all {
			d := rawhttp.NewUnsignedRequest(o.Kind, 5000+i, h.Acme)
			if o.BeforeSigning != nil {
				o.BeforeSigning(h, d)
			}
			p := d.Sign()
			if o.AfterSigning != nil {
				o.AfterSigning(h, p)
			}
			once := o.StoredMessages(d.Kind)
			if expectAccepted(h, t, o.Name, p, once) && expectAccepted(h, t, o.Name+" again", p, 0) {
				taken++
			}
		}
		t.Logf("odd genuine requests: %d, refused or stored twice: %d", len(all), len(all)-taken)
		if taken < minUnusual {
			t.Errorf("only %d odd requests were taken; want at least %d", taken, minUnusual)
		}
	})
}

// sample gives all cases, and for the second engine every third when time is short: what
// refuses a request is the same on both.
func sample[T any](all []T, h *rawhttp.WebhookFixture) (picked []T) {
	if harness.FullRun() || !h.IsPostgres() {
		return all
	}
	for i := 0; i < len(all); i += 3 {
		picked = append(picked, all[i])
	}
	return picked
}

// forge makes a forgery of message n.
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

// expectRejected sends a forged request, which must be refused as is documented and change
// nothing.
func expectRejected(h *rawhttp.WebhookFixture, t *testing.T, f rawhttp.ForgedRequest, p *rawhttp.RawRequest, before string) bool {
	t.Helper()
	name := f.Kind + "/" + f.Name
	a := h.Send(t, h.NewCallerAddr(), p)
	ok := true
	if a.Status != f.Status {
		t.Errorf("%s: %d %q; want %d", name, a.Status, a.Body, f.Status)
		ok = false
	}
	if !isEmptyResponse(f.Kind, a) {
		t.Errorf("%s: the answer is %v %q", name, a.Header, a.Body)
		ok = false
	}
	for _, secret := range append(validProofs(h, p.Unsigned), h.Secrets...) {
		if strings.Contains(a.Dump(), secret) {
			t.Errorf("%s: the answer tells a secret, or what would have been right", name)
			ok = false
		}
	}
	if now := h.RowCounts(); now != before {
		t.Errorf("%s: rows before:\n%s\nand after:\n%s", name, before, now)
		ok = false
	}
	return ok
}

// validProofs gives what would have proven the request that was made a forgery of.
func validProofs(h *rawhttp.WebhookFixture, d *rawhttp.UnsignedRequest) (all []string) {
	for _, seat := range []rawhttp.InstanceAccounts{h.Acme, h.Neighbor} {
		p := rawhttp.NewUnsignedRequest(d.Kind, d.Number, seat).Sign()
		all = append(all, strings.TrimPrefix(p.Get(p.SignatureHeader()), "v0="))
	}
	return append(all, rawhttp.BodyMarker(d.Number))
}

// isEmptyResponse reports whether an answer is empty, or the one empty answer that Twilio
// understands. What is no HTTP at all is told so by the server, in words of its own.
func isEmptyResponse(kind string, a harness.Response) bool {
	channel, _ := rawhttp.SplitKind(kind)
	switch {
	case a.Status == 400 && regexp.MustCompile(`^400 Bad Request(: [a-z -]+| Header|: [a-zA-Z -]+)?$`).MatchString(a.Body):
		return true
	case a.Status == 501 && (a.Body == "501 Not Implemented: unsupported transfer encoding" || a.Body == "Unsupported transfer encoding"):
		return true
	case a.Status == 404 && a.Body == `{"detail":"Not Found"}`: // a path that is none of the hooks'
		return true
	case channel == "sms" || channel == "whatsapp":
		const nothing = `<?xml version="1.0" encoding="UTF-8"?><Response/>`
		return (a.Body == nothing || a.Body == "") && strings.HasPrefix(a.Header.Get("Content-Type"), "text/xml")
	}
	return a.Body == ""
}

// expectAccepted sends a genuine request, which must bring this many messages.
func expectAccepted(h *rawhttp.WebhookFixture, t *testing.T, name string, p *rawhttp.RawRequest, messages int) bool {
	t.Helper()
	was := h.MessageCount()
	a := h.Send(t, h.NewCallerAddr(), p)
	if a.Status != 200 {
		t.Errorf("%s, genuine: %d %q", name, a.Status, a.Body)
		return false
	}
	if got := h.MessageCount() - was; got != messages {
		t.Errorf("%s, genuine: %d messages are stored; want %d", name, got, messages)
		return false
	}
	return true
}

// databaseDump gives all that is kept, in the database and beside it, but for what the program
// writes down of its own doings.
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

var longHexPattern = regexp.MustCompile(`[0-9a-fA-F]{64}`)

// checkLogHasNoSecrets looks through the log, at its most talkative, for what came in and for
// what would have been right. The search is not blind: it finds what it must.
func checkLogHasNoSecrets(h *rawhttp.WebhookFixture, t *testing.T, until int) {
	t.Helper()
	log := h.Log.String()
	if !strings.Contains(log, "webhook rejected") {
		t.Error("the search is blind: not one refusal is in the log")
	}
	if planted := log + harness.SlackSignature("x", "1", "y"); !longHexPattern.MatchString(planted) {
		t.Error("the search is blind: a planted signature is not found")
	}
	if at := longHexPattern.FindString(log); at != "" {
		t.Errorf("the log holds %q", at)
	}
	for _, word := range append([]string{"canary", "first_name", "MessageSid", "v0=", "evil.example"}, h.Secrets...) {
		if strings.Contains(log, word) {
			t.Errorf("the log holds %q, which was in a request or is a secret", word)
		}
	}
}

// acceptedByNaiveChecks reports whether a request would pass checks as they are often written:
// the URL is what the request says of itself, the first of several values counts, what
// has no key is let through, and time plays no part. It shows that a forgery is one.
func acceptedByNaiveChecks(h *rawhttp.WebhookFixture, p *rawhttp.RawRequest) bool {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(p.Encode())))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	seat, found := naiveInstance(h, r.URL.Path)
	if !found {
		return false
	}
	switch channel, _ := rawhttp.SplitKind(p.Unsigned.Kind); channel {
	case "telegram":
		return strings.HasPrefix(r.Header.Get(rawhttp.TelegramSecretHeader), seat.TelegramSecret)
	case "slack":
		right := harness.SlackSignature(seat.SigningSecret, r.Header.Get(rawhttp.SlackTimestampHeader), string(body))
		return strings.EqualFold(r.Header.Get(rawhttp.SlackSignatureHeader), right)
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
	return r.Header.Get(rawhttp.TwilioSignatureHeader) == harness.TwilioSignature(seat.AuthToken, scheme+"://"+host+r.URL.RequestURI(), form)
}

// naiveInstance finds an instance without looking at anything but its id.
func naiveInstance(h *rawhttp.WebhookFixture, path string) (rawhttp.InstanceAccounts, bool) {
	for _, s := range []rawhttp.InstanceAccounts{h.Acme, h.Neighbor, h.OtherAccount, h.Keyless} {
		if strings.Contains(strings.ToLower(path), s.InstanceID) {
			return s, true
		}
	}
	return rawhttp.InstanceAccounts{}, false
}
