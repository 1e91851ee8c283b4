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
	twAccount = "AC6a1f0c2b9d8e4f7a8b3c5d6e7f809112"
	twToken   = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	twNumber  = "+15005550006"
	twSteve   = "+14155550101"
)

func pretendTwilio(t *testing.T) (tw *Twilio, origin string) {
	t.Helper()
	tw = NewTwilio()
	tw.AddAccount(twAccount, twToken)
	tw.AddNumber(twAccount, twNumber)
	srv := httptest.NewServer(tw)
	t.Cleanup(srv.Close)
	t.Cleanup(tw.Close)
	return tw, srv.URL
}

// hook is a webhook that answers in one way and remembers what it got.
type hook struct {
	status            int
	contentType, body string

	mu    sync.Mutex
	forms []url.Values
	heads []http.Header
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	h.mu.Lock()
	h.forms, h.heads = append(h.forms, r.PostForm), append(h.heads, r.Header)
	h.mu.Unlock()
	w.Header().Set("Content-Type", h.contentType)
	w.WriteHeader(h.status)
	_, _ = io.WriteString(w, h.body)
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/hook"
}

func twilioCallFor(t *testing.T, method, u, user, token string, form url.Values) (status int, doc map[string]any) {
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

func TestTwilioMessagesCreate(t *testing.T) {
	tw, origin := pretendTwilio(t)
	tw.SetWhatsAppURL(twAccount, twNumber, "", "")
	tw.AddAccount("AC00000000000000000000000000000002", "other")
	tw.AddNumber("AC00000000000000000000000000000002", "+15005550002")
	tw.Text("+14155550102", twNumber, "Stop")
	u := origin + "/2010-04-01/Accounts/" + twAccount + "/Messages.json"
	for name, c := range map[string]struct {
		form url.Values
		code float64
	}{
		"Taken":          {url.Values{"To": {twSteve}, "From": {twNumber}, "Body": {"hello"}}, 0},
		"NoTo":           {url.Values{"From": {twNumber}, "Body": {"hello"}}, 21604},
		"NoBody":         {url.Values{"To": {twSteve}, "From": {twNumber}}, 21602},
		"InvalidTo":      {url.Values{"To": {"4155550101"}, "From": {twNumber}, "Body": {"hello"}}, 21211},
		"ForeignFrom":    {url.Values{"To": {twSteve}, "From": {"+15005550002"}, "Body": {"hello"}}, 21606},
		"TooLong":        {url.Values{"To": {twSteve}, "From": {twNumber}, "Body": {strings.Repeat("😀", 801)}}, 21617},
		"OptedOut":       {url.Values{"To": {"+14155550102"}, "From": {twNumber}, "Body": {"hello"}}, 21610},
		"ChannelsMixed":  {url.Values{"To": {twSteve}, "From": {"whatsapp:" + twNumber}, "Body": {"hello"}}, 21910},
		"UnknownService": {url.Values{"To": {twSteve}, "MessagingServiceSid": {"MG1"}, "Body": {"hello"}}, 21606},
	} {
		t.Run(name, func(t *testing.T) {
			status, doc := twilioCallFor(t, http.MethodPost, u, twAccount, twToken, c.form)
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
	if ls := tw.Answers(twSteve); len(ls) != 1 || ls[0].Text != "hello" {
		t.Errorf("%+v", ls)
	}
}

func TestTwilioAuth(t *testing.T) {
	tw, origin := pretendTwilio(t)
	tw.AddAccount("AC00000000000000000000000000000002", "other")
	u := origin + "/2010-04-01/Accounts/" + twAccount + ".json"
	for name, c := range map[string]struct {
		user, token string
		status      int
	}{
		"Good":         {twAccount, twToken, 200},
		"WrongToken":   {twAccount, "x", 401},
		"EmptyToken":   {twAccount, "", 401},
		"OtherAccount": {"AC00000000000000000000000000000002", "other", 401},
		"Nobody":       {"", "", 401},
	} {
		if status, doc := twilioCallFor(t, http.MethodGet, u, c.user, c.token, nil); status != c.status {
			t.Errorf("%s: %d %v", name, status, doc)
		}
	}
	tw.RotateToken(twAccount, "fresh")
	if status, _ := twilioCallFor(t, http.MethodGet, u, twAccount, twToken, nil); status != 401 {
		t.Errorf("the old token after rotation: %d", status)
	}
	if status, doc := twilioCallFor(t, http.MethodGet, origin+"/2010-04-01/Accounts/"+twAccount+"/Calls.json", twAccount, "fresh", nil); status != 404 || doc["code"] != 20404.0 {
		t.Errorf("what is not there: %d %v", status, doc)
	}
}

func TestTwilioWindowOfWhatsApp(t *testing.T) {
	tw, origin := pretendTwilio(t)
	tw.SetWhatsAppURL(twAccount, twNumber, "", "")
	u := origin + "/2010-04-01/Accounts/" + twAccount + "/Messages.json"
	send := url.Values{"To": {"whatsapp:" + twSteve}, "From": {"whatsapp:" + twNumber}, "Body": {"hello"}}
	for _, want := range []int{0, 1} {
		if status, doc := twilioCallFor(t, http.MethodPost, u, twAccount, twToken, send); status != 201 {
			t.Fatal(status, doc)
		}
		if n := len(tw.Answers("whatsapp:" + twSteve)); n != want {
			t.Errorf("Steve reads %d messages; want %d", n, want)
		}
		tw.Text("whatsapp:"+twSteve, "whatsapp:"+twNumber, "hi")
	}
}

func TestTwilioListPages(t *testing.T) {
	tw, origin := pretendTwilio(t)
	for range 5 {
		tw.Text(twSteve, twNumber, "hi")
	}
	tw.Text("+14155550102", twNumber, "hi")
	next, seen, pages := "/2010-04-01/Accounts/"+twAccount+"/Messages.json?PageSize=2&From="+url.QueryEscape(twSteve), map[string]bool{}, 0
	for next != "" {
		_, doc := twilioCallFor(t, http.MethodGet, origin+next, twAccount, twToken, nil)
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
	_, doc := twilioCallFor(t, http.MethodGet, origin+"/2010-04-01/Accounts/"+twAccount+"/Messages.json?"+future.Encode(), twAccount, twToken, nil)
	if n := len(doc["messages"].([]any)); n != 0 {
		t.Errorf("%d messages of the future", n)
	}
}

func TestTwilioAnswersOfWebhooks(t *testing.T) {
	for name, c := range map[string]struct {
		hook *hook
		want []string
		good bool
	}{
		"EmptyTwiML":   {&hook{status: 200, contentType: "text/xml", body: `<?xml version="1.0" encoding="UTF-8"?><Response/>`}, nil, true},
		"Nothing":      {&hook{status: 204, contentType: "text/plain"}, nil, true},
		"PlainText":    {&hook{status: 200, contentType: "text/plain; charset=utf-8", body: "ok"}, []string{"ok"}, true},
		"TwiML":        {&hook{status: 200, contentType: "application/xml", body: "<Response><Message>a &amp; b</Message><Message><Body>c</Body></Message></Response>"}, []string{"a & b", "c"}, true},
		"JSON":         {&hook{status: 200, contentType: "application/json", body: "{}"}, nil, false},
		"BrokenTwiML":  {&hook{status: 200, contentType: "text/xml", body: "<Response>"}, nil, false},
		"PlainRefusal": {&hook{status: 403, contentType: "text/plain", body: "Forbidden"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			tw, _ := pretendTwilio(t)
			tw.SetWebhook(twNumber, serve(t, c.hook), "")
			sid := tw.Text(twSteve, twNumber, "hi")
			var got []string
			for _, l := range tw.Answers(twSteve) {
				got = append(got, l.Text)
			}
			if !slices.Equal(got, c.want) || tw.Delivered(sid) != c.good {
				t.Errorf("Steve reads %q; %+v", got, tw.Attempts(sid))
			}
		})
	}
}

// By default Twilio tries once more, and only when nobody took the connection.
func TestTwilioRetries(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	broken := serve(t, &hook{status: 500, contentType: "text/xml"})
	missing := serve(t, &hook{status: 404, contentType: "text/xml"})
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
			tw, _ := pretendTwilio(t)
			fallback := &hook{status: 200, contentType: "text/xml"}
			tw.SetWebhook(twNumber, c.url, serve(t, fallback))
			sid := tw.Text(twSteve, twNumber, "hi")
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

func TestTwilioTokenIsTheSameForAllAttempts(t *testing.T) {
	tw, _ := pretendTwilio(t)
	h := &hook{status: 503, contentType: "text/xml"}
	u := serve(t, h)
	tw.SetWebhook(twNumber, u+"#rc=2&rp=all", u)
	tw.Text(twSteve, twNumber, "hi")
	tokens := map[string]bool{}
	for _, head := range h.heads {
		tokens[head.Get("I-Twilio-Idempotency-Token")] = true
	}
	if len(h.heads) != 4 || len(tokens) != 1 || tokens[""] {
		t.Errorf("%d attempts with %d tokens", len(h.heads), len(tokens))
	}
}

// A webhook that does not answer costs the time its URL allows, and no more.
func TestTwilioTimeLimit(t *testing.T) {
	tw, _ := pretendTwilio(t)
	silent := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	tw.SetWebhook(twNumber, silent+"#tt=50&rc=5&rp=all", "")
	sid := tw.Text(twSteve, twNumber, "hi")
	if as := tw.Attempts(sid); len(as) != 1 || as[0].Err == nil {
		t.Errorf("%+v", as)
	}
}

func TestTwilioClose(t *testing.T) {
	tw, _ := pretendTwilio(t)
	asked := make(chan struct{})
	tw.SetWebhook(twNumber, serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})), "")
	done := make(chan string)
	go func() { done <- tw.Text(twSteve, twNumber, "hi") }()
	<-asked
	tw.Close()
	if sid := <-done; tw.Delivered(sid) {
		t.Error("taken")
	}
	if sid := tw.Text(twSteve, twNumber, "hi"); len(tw.Attempts(sid)) != 0 {
		t.Error("posted after Close")
	}
}

func TestTwilioKeywords(t *testing.T) {
	tw, _ := pretendTwilio(t)
	for _, c := range []struct {
		text   string
		out    bool
		spoken int // lines of Twilio itself so far
	}{{"stop please", false, 0}, {" Stop ", true, 1}, {"HELP", true, 2}, {"start", false, 3}, {"YES", false, 3}} {
		tw.Text(twSteve, twNumber, c.text)
		spoken := 0
		for _, l := range tw.Lines(twSteve) {
			if l.Sender == "twilio" {
				spoken++
			}
		}
		if tw.OptedOut(twSteve, twNumber) != c.out || spoken != c.spoken {
			t.Errorf("after %q: opted out %v, %d lines of Twilio", c.text, tw.OptedOut(twSteve, twNumber), spoken)
		}
	}
	if sid := tw.Text(twSteve, "+15005550009", "hi"); sid != "" {
		t.Errorf("a text to nobody has the SID %s", sid)
	}
}

func TestTwilioFaults(t *testing.T) {
	tw, origin := pretendTwilio(t)
	u := origin + "/2010-04-01/Accounts/" + twAccount + "/Messages.json"
	form := url.Values{"To": {twSteve}, "From": {twNumber}, "Body": {"hello"}}
	tw.Arm("Messages.create", Fault{Status: 429, Body: "{}"}, Fault{Hang: true})
	if status, _ := twilioCallFor(t, http.MethodPost, u, twAccount, twToken, form); status != 429 || len(tw.Answers("")) != 0 {
		t.Errorf("%d, %v", status, tw.Answers(""))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(form.Encode()))
	r.SetBasicAuth(twAccount, twToken)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	failed := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		failed <- err
	}()
	if _, err := tw.Answer(t.Context(), twSteve, 0); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("answered")
	}
}
