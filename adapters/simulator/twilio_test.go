package simulator

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	twilioAccountSID = "AC6a1f0c2b9d8e4f7a8b3c5d6e7f809112"
	twilioAuthToken  = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	twilioTestNumber = "+15005550006"
	twilioSteve      = "+14155550101"
)

func newTestTwilio(t *testing.T) (tw *Twilio, origin string) {
	t.Helper()
	tw = NewTwilio()
	tw.AddAccount(twilioAccountSID, twilioAuthToken)
	tw.AddNumber(twilioAccountSID, twilioTestNumber)
	srv := httptest.NewServer(tw)
	t.Cleanup(srv.Close)
	t.Cleanup(tw.Close)
	return tw, srv.URL
}

// webhookRecorder is a webhook that answers in one way and remembers what it got.
type webhookRecorder struct {
	status            int
	contentType, body string

	mu      sync.Mutex
	forms   []url.Values
	headers []http.Header
}

func (h *webhookRecorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	h.mu.Lock()
	h.forms, h.headers = append(h.forms, r.PostForm), append(h.headers, r.Header)
	h.mu.Unlock()
	w.Header().Set("Content-Type", h.contentType)
	w.WriteHeader(h.status)
	_, _ = io.WriteString(w, h.body)
}

func serveWebhook(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/hook"
}

func callTwilio(t *testing.T, method, u, user, token string, form url.Values) (status int, doc map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, token)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, doc
}

func TestTwilio_CreateMessage(t *testing.T) {
	tw, origin := newTestTwilio(t)
	tw.SetWhatsAppURL(twilioAccountSID, twilioTestNumber, "", "")
	tw.AddAccount("AC00000000000000000000000000000002", "other")
	tw.AddNumber("AC00000000000000000000000000000002", "+15005550002")
	tw.SendText("+14155550102", twilioTestNumber, "Stop")
	u := origin + "/2010-04-01/Accounts/" + twilioAccountSID + "/Messages.json"
	for name, c := range map[string]struct {
		form url.Values
		code float64
	}{
		"Taken":          {url.Values{"To": {twilioSteve}, "From": {twilioTestNumber}, "Body": {"hello"}}, 0},
		"NoTo":           {url.Values{"From": {twilioTestNumber}, "Body": {"hello"}}, 21604},
		"NoBody":         {url.Values{"To": {twilioSteve}, "From": {twilioTestNumber}}, 21602},
		"InvalidTo":      {url.Values{"To": {"4155550101"}, "From": {twilioTestNumber}, "Body": {"hello"}}, 21211},
		"ForeignFrom":    {url.Values{"To": {twilioSteve}, "From": {"+15005550002"}, "Body": {"hello"}}, 21606},
		"TooLong":        {url.Values{"To": {twilioSteve}, "From": {twilioTestNumber}, "Body": {strings.Repeat("😀", 801)}}, 21617},
		"OptedOut":       {url.Values{"To": {"+14155550102"}, "From": {twilioTestNumber}, "Body": {"hello"}}, 21610},
		"ChannelsMixed":  {url.Values{"To": {twilioSteve}, "From": {"whatsapp:" + twilioTestNumber}, "Body": {"hello"}}, 21910},
		"UnknownService": {url.Values{"To": {twilioSteve}, "MessagingServiceSid": {"MG1"}, "Body": {"hello"}}, 21606},
	} {
		t.Run(name, func(t *testing.T) {
			status, doc := callTwilio(t, http.MethodPost, u, twilioAccountSID, twilioAuthToken, c.form)
			if c.code == 0 {
				if status != http.StatusCreated || doc["status"] != "queued" || doc["num_segments"] != "1" {
					t.Errorf("%d %v", status, doc)
				}
				return
			}
			if status != http.StatusBadRequest || doc["code"] != c.code {
				t.Errorf("%d %v; want code %v", status, doc, c.code)
			}
		})
	}
	if ls := tw.Replies(twilioSteve); len(ls) != 1 || ls[0].Text != "hello" {
		t.Errorf("%+v", ls)
	}
}

func TestTwilio_Auth(t *testing.T) {
	tw, origin := newTestTwilio(t)
	tw.AddAccount("AC00000000000000000000000000000002", "other")
	u := origin + "/2010-04-01/Accounts/" + twilioAccountSID + ".json"
	for name, c := range map[string]struct {
		user, token string
		status      int
	}{
		"Good":         {twilioAccountSID, twilioAuthToken, 200},
		"WrongToken":   {twilioAccountSID, "x", 401},
		"EmptyToken":   {twilioAccountSID, "", 401},
		"OtherAccount": {"AC00000000000000000000000000000002", "other", 401},
		"Nobody":       {"", "", 401},
	} {
		if status, doc := callTwilio(t, http.MethodGet, u, c.user, c.token, nil); status != c.status {
			t.Errorf("%s: %d %v", name, status, doc)
		}
	}
	tw.RotateToken(twilioAccountSID, "fresh")
	if status, _ := callTwilio(t, http.MethodGet, u, twilioAccountSID, twilioAuthToken, nil); status != 401 {
		t.Errorf("the old token after rotation: %d", status)
	}
	if status, doc := callTwilio(t, http.MethodGet, origin+"/2010-04-01/Accounts/"+twilioAccountSID+"/Calls.json", twilioAccountSID, "fresh", nil); status != 404 || doc["code"] != 20404.0 {
		t.Errorf("what is not there: %d %v", status, doc)
	}
}

func TestTwilio_WhatsAppWindow(t *testing.T) {
	tw, origin := newTestTwilio(t)
	tw.SetWhatsAppURL(twilioAccountSID, twilioTestNumber, "", "")
	u := origin + "/2010-04-01/Accounts/" + twilioAccountSID + "/Messages.json"
	send := url.Values{"To": {"whatsapp:" + twilioSteve}, "From": {"whatsapp:" + twilioTestNumber}, "Body": {"hello"}}
	for _, want := range []int{0, 1} {
		if status, doc := callTwilio(t, http.MethodPost, u, twilioAccountSID, twilioAuthToken, send); status != 201 {
			t.Fatal(status, doc)
		}
		if n := len(tw.Replies("whatsapp:" + twilioSteve)); n != want {
			t.Errorf("Steve reads %d messages; want %d", n, want)
		}
		tw.SendText("whatsapp:"+twilioSteve, "whatsapp:"+twilioTestNumber, "hi")
	}
}

func TestTwilio_ListPages(t *testing.T) {
	tw, origin := newTestTwilio(t)
	for range 5 {
		tw.SendText(twilioSteve, twilioTestNumber, "hi")
	}
	tw.SendText("+14155550102", twilioTestNumber, "hi")
	next, seen, pages := "/2010-04-01/Accounts/"+twilioAccountSID+"/Messages.json?PageSize=2&From="+url.QueryEscape(twilioSteve), map[string]bool{}, 0
	for next != "" {
		_, doc := callTwilio(t, http.MethodGet, origin+next, twilioAccountSID, twilioAuthToken, nil)
		for _, m := range doc["messages"].([]any) {
			seen[m.(map[string]any)["sid"].(string)] = true
		}
		next, _ = doc["next_page_uri"].(string)
		pages++
	}
	if len(seen) != 5 || pages != 3 {
		t.Errorf("%d messages on %d pages", len(seen), pages)
	}
	future := url.Values{"DateSent>": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}
	_, doc := callTwilio(t, http.MethodGet, origin+"/2010-04-01/Accounts/"+twilioAccountSID+"/Messages.json?"+future.Encode(), twilioAccountSID, twilioAuthToken, nil)
	if n := len(doc["messages"].([]any)); n != 0 {
		t.Errorf("%d messages of the future", n)
	}
}

func TestTwilio_WebhookResponses(t *testing.T) {
	for name, c := range map[string]struct {
		hook *webhookRecorder
		want []string
		good bool
	}{
		"EmptyTwiML":   {&webhookRecorder{status: 200, contentType: "text/xml", body: `<?xml version="1.0" encoding="UTF-8"?><Response/>`}, nil, true},
		"Nothing":      {&webhookRecorder{status: 204, contentType: "text/plain"}, nil, true},
		"PlainText":    {&webhookRecorder{status: 200, contentType: "text/plain; charset=utf-8", body: "ok"}, []string{"ok"}, true},
		"TwiML":        {&webhookRecorder{status: 200, contentType: "application/xml", body: "<Response><Message>a &amp; b</Message><Message><Body>c</Body></Message></Response>"}, []string{"a & b", "c"}, true},
		"JSON":         {&webhookRecorder{status: 200, contentType: "application/json", body: "{}"}, nil, false},
		"BrokenTwiML":  {&webhookRecorder{status: 200, contentType: "text/xml", body: "<Response>"}, nil, false},
		"PlainRefusal": {&webhookRecorder{status: 403, contentType: "text/plain", body: "Forbidden"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			tw, _ := newTestTwilio(t)
			tw.SetWebhook(twilioTestNumber, serveWebhook(t, c.hook), "")
			sid := tw.SendText(twilioSteve, twilioTestNumber, "hi")
			var got []string
			for _, l := range tw.Replies(twilioSteve) {
				got = append(got, l.Text)
			}
			if !slices.Equal(got, c.want) || tw.Delivered(sid) != c.good {
				t.Errorf("Steve reads %q; %+v", got, tw.Attempts(sid))
			}
		})
	}
}

// By default Twilio tries once more, and only when nobody took the connection.
func TestTwilio_Retries(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	broken := serveWebhook(t, &webhookRecorder{status: 500, contentType: "text/xml"})
	missing := serveWebhook(t, &webhookRecorder{status: 404, contentType: "text/xml"})
	for name, c := range map[string]struct {
		url      string
		attempts int
	}{
		"NobodyThere":   {"http://" + closed.Addr().String(), 2},
		"500":           {broken, 1},
		"500Asked":      {broken + "#rc=3&rp=5xx", 4},
		"500AskedFor4":  {broken + "#rc=3&rp=4xx", 1},
		"404All":        {missing + "#rc=5&rp=all", 6},
		"404AskedAbove": {missing + "#rc=99&rp=4xx,ct", 6},
		"NoRetry":       {"http://" + closed.Addr().String() + "#rc=0", 1},
	} {
		t.Run(name, func(t *testing.T) {
			tw, _ := newTestTwilio(t)
			fallback := &webhookRecorder{status: 200, contentType: "text/xml"}
			tw.SetWebhook(twilioTestNumber, c.url, serveWebhook(t, fallback))
			sid := tw.SendText(twilioSteve, twilioTestNumber, "hi")
			if as := tw.Attempts(sid); len(as) != c.attempts+1 || !tw.Delivered(sid) {
				t.Errorf("%+v; want %d and the fallback", as, c.attempts)
			}
			primary, _, _ := strings.Cut(c.url, "#")
			if f := fallback.forms[0]; f.Get("ErrorCode") != "11200" || f.Get("ErrorUrl") != primary || f.Get("MessageSid") != sid {
				t.Errorf("%v", f)
			}
		})
	}
}

func TestTwilio_IdempotencyToken(t *testing.T) {
	tw, _ := newTestTwilio(t)
	h := &webhookRecorder{status: 503, contentType: "text/xml"}
	u := serveWebhook(t, h)
	tw.SetWebhook(twilioTestNumber, u+"#rc=2&rp=all", u)
	tw.SendText(twilioSteve, twilioTestNumber, "hi")
	tokens := map[string]bool{}
	for _, head := range h.headers {
		tokens[head.Get("I-Twilio-Idempotency-Token")] = true
	}
	if len(h.headers) != 4 || len(tokens) != 1 || tokens[""] {
		t.Errorf("%d attempts with %d tokens", len(h.headers), len(tokens))
	}
}

// A webhook that does not answer costs the time its URL allows, and no more.
func TestTwilio_Timeout(t *testing.T) {
	tw, _ := newTestTwilio(t)
	silent := serveWebhook(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	tw.SetWebhook(twilioTestNumber, silent+"#tt=50&rc=5&rp=all", "")
	sid := tw.SendText(twilioSteve, twilioTestNumber, "hi")
	if as := tw.Attempts(sid); len(as) != 1 || as[0].Err == nil {
		t.Errorf("%+v", as)
	}
}

func TestTwilio_Close(t *testing.T) {
	tw, _ := newTestTwilio(t)
	asked := make(chan struct{})
	tw.SetWebhook(twilioTestNumber, serveWebhook(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})), "")
	done := make(chan string)
	go func() { done <- tw.SendText(twilioSteve, twilioTestNumber, "hi") }()
	<-asked
	tw.Close()
	if sid := <-done; tw.Delivered(sid) {
		t.Error("taken")
	}
	if sid := tw.SendText(twilioSteve, twilioTestNumber, "hi"); len(tw.Attempts(sid)) != 0 {
		t.Error("posted after Close")
	}
}

func TestTwilio_Keywords(t *testing.T) {
	tw, _ := newTestTwilio(t)
	for _, c := range []struct {
		text   string
		out    bool
		spoken int // lines of Twilio itself so far
	}{{"stop please", false, 0}, {" Stop ", true, 1}, {"HELP", true, 2}, {"start", false, 3}, {"YES", false, 3}} {
		tw.SendText(twilioSteve, twilioTestNumber, c.text)
		spoken := 0
		for _, l := range tw.Lines(twilioSteve) {
			if l.Sender == "twilio" {
				spoken++
			}
		}
		if tw.OptedOut(twilioSteve, twilioTestNumber) != c.out || spoken != c.spoken {
			t.Errorf("after %q: opted out %v, %d lines of Twilio", c.text, tw.OptedOut(twilioSteve, twilioTestNumber), spoken)
		}
	}
	if sid := tw.SendText(twilioSteve, "+15005550009", "hi"); sid != "" {
		t.Errorf("a text to nobody has the SID %s", sid)
	}
}

func TestTwilio_Faults(t *testing.T) {
	tw, origin := newTestTwilio(t)
	u := origin + "/2010-04-01/Accounts/" + twilioAccountSID + "/Messages.json"
	form := url.Values{"To": {twilioSteve}, "From": {twilioTestNumber}, "Body": {"hello"}}
	tw.Arm("Messages.create", Fault{Status: 429, Body: "{}"}, Fault{Hang: true})
	if status, _ := callTwilio(t, http.MethodPost, u, twilioAccountSID, twilioAuthToken, form); status != 429 || len(tw.Replies("")) != 0 {
		t.Errorf("%d, %v", status, tw.Replies(""))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(form.Encode()))
	r.SetBasicAuth(twilioAccountSID, twilioAuthToken)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	failed := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		failed <- err
	}()
	if _, err := tw.WaitReply(t.Context(), twilioSteve, 0); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("answered")
	}
}
