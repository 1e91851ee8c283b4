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

// A webhookRecorder is a webhook that records requests and always sends the same response.
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

func callTwilio(
	t *testing.T, method, u, user, token string, form url.Values,
) (status int, doc map[string]any) {
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
	form := func(to, from, body string) url.Values {
		return url.Values{"To": {to}, "From": {from}, "Body": {body}}
	}
	for name, c := range map[string]struct {
		form url.Values
		code float64 // 0: accepted
	}{
		"accepted":        {form(twilioSteve, twilioTestNumber, "hello"), 0},
		"no To":           {form("", twilioTestNumber, "hello"), 21604},
		"no body":         {form(twilioSteve, twilioTestNumber, ""), 21602},
		"invalid To":      {form("4155550101", twilioTestNumber, "hello"), 21211},
		"From not ours":   {form(twilioSteve, "+15005550002", "hello"), 21606},
		"too long":        {form(twilioSteve, twilioTestNumber, strings.Repeat("😀", 801)), 21617},
		"opted out":       {form("+14155550102", twilioTestNumber, "hello"), 21610},
		"channels differ": {form(twilioSteve, "whatsapp:"+twilioTestNumber, "hello"), 21910},
		"unknown service": {url.Values{"To": {twilioSteve}, "MessagingServiceSid": {"MG1"}, "Body": {"hello"}}, 21606},
	} {
		t.Run(name, func(t *testing.T) {
			status, doc := callTwilio(t, http.MethodPost, u, twilioAccountSID, twilioAuthToken, c.form)
			if c.code == 0 {
				if status != http.StatusCreated || doc["status"] != "queued" || doc["num_segments"] != "1" {
					t.Errorf("response = %d %v, want 201 and a queued message of one segment", status, doc)
				}
				return
			}
			if status != http.StatusBadRequest || doc["code"] != c.code {
				t.Errorf("response = %d %v, want 400 with code %v", status, doc, c.code)
			}
		})
	}
	if lines := tw.Replies(twilioSteve); len(lines) != 1 || lines[0].Text != "hello" {
		t.Errorf("Replies = %+v, want one", lines)
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
		"valid":         {twilioAccountSID, twilioAuthToken, 200},
		"wrong token":   {twilioAccountSID, "x", 401},
		"empty token":   {twilioAccountSID, "", 401},
		"other account": {"AC00000000000000000000000000000002", "other", 401},
		"no user":       {"", "", 401},
	} {
		if status, doc := callTwilio(t, http.MethodGet, u, c.user, c.token, nil); status != c.status {
			t.Errorf("%s: response = %d %v, want %d", name, status, doc, c.status)
		}
	}
	tw.RotateToken(twilioAccountSID, "new")
	if status, _ := callTwilio(t, http.MethodGet, u, twilioAccountSID, twilioAuthToken, nil); status != 401 {
		t.Errorf("response with the previous token = %d, want 401", status)
	}
	u = origin + "/2010-04-01/Accounts/" + twilioAccountSID + "/Calls.json"
	status, doc := callTwilio(t, http.MethodGet, u, twilioAccountSID, "new", nil)
	if status != 404 || doc["code"] != 20404.0 {
		t.Errorf("response for an unknown resource = %d %v, want 404 with code 20404", status, doc)
	}
}

func TestTwilio_WhatsAppWindow(t *testing.T) {
	tw, origin := newTestTwilio(t)
	tw.SetWhatsAppURL(twilioAccountSID, twilioTestNumber, "", "")
	u := origin + "/2010-04-01/Accounts/" + twilioAccountSID + "/Messages.json"
	person, number := "whatsapp:"+twilioSteve, "whatsapp:"+twilioTestNumber
	send := url.Values{"To": {person}, "From": {number}, "Body": {"hello"}}
	for _, want := range []int{0, 1} {
		if status, doc := callTwilio(t, http.MethodPost, u, twilioAccountSID, twilioAuthToken, send); status != 201 {
			t.Fatalf("response = %d %v, want 201", status, doc)
		}
		if n := len(tw.Replies(person)); n != want {
			t.Errorf("%d messages received, want %d", n, want)
		}
		tw.SendText(person, number, "hi")
	}
}

func TestTwilio_ListPages(t *testing.T) {
	tw, origin := newTestTwilio(t)
	for range 5 {
		tw.SendText(twilioSteve, twilioTestNumber, "hi")
	}
	tw.SendText("+14155550102", twilioTestNumber, "hi")
	path := "/2010-04-01/Accounts/" + twilioAccountSID + "/Messages.json?"
	list := origin + path
	next, seen, pages := path+"PageSize=2&From="+url.QueryEscape(twilioSteve), map[string]bool{}, 0
	for next != "" {
		if pages == 1 {
			tw.SendText(twilioSteve, twilioTestNumber, "a message during paging does not shift the pages")
		}
		_, doc := callTwilio(t, http.MethodGet, origin+next, twilioAccountSID, twilioAuthToken, nil)
		for _, m := range doc["messages"].([]any) {
			seen[m.(map[string]any)["sid"].(string)] = true
		}
		next, _ = doc["next_page_uri"].(string)
		pages++
	}
	if len(seen) != 5 || pages != 3 {
		t.Errorf("%d messages on %d pages, want 5 on 3", len(seen), pages)
	}
	future := url.Values{"DateSent>": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}
	_, doc := callTwilio(t, http.MethodGet, list+future.Encode(), twilioAccountSID, twilioAuthToken, nil)
	if n := len(doc["messages"].([]any)); n != 0 {
		t.Errorf("%d messages sent in the future, want 0", n)
	}
	status, doc := callTwilio(t, http.MethodGet, list+"PageToken=PAx", twilioAccountSID, twilioAuthToken, nil)
	if status != http.StatusBadRequest {
		t.Errorf("response for an invalid page token = %d %v, want 400", status, doc)
	}
}

func TestTwilio_WebhookResponses(t *testing.T) {
	const empty = `<?xml version="1.0" encoding="UTF-8"?><Response/>`
	const twoMessages = "<Response><Message>a &amp; b</Message><Message><Body>c</Body></Message></Response>"
	for name, c := range map[string]struct {
		status            int
		contentType, body string
		wantReplies       []string
		wantDelivered     bool
	}{
		"empty TwiML":          {200, "text/xml", empty, nil, true},
		"no body":              {204, "text/plain", "", nil, true},
		"plain text":           {200, "text/plain; charset=utf-8", "ok", []string{"ok"}, true},
		"TwiML":                {200, "application/xml", twoMessages, []string{"a & b", "c"}, true},
		"JSON":                 {200, "application/json", "{}", nil, false},
		"invalid TwiML":        {200, "text/xml", "<Response>", nil, false},
		"rejection plain text": {403, "text/plain", "Forbidden", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			tw, _ := newTestTwilio(t)
			webhook := &webhookRecorder{status: c.status, contentType: c.contentType, body: c.body}
			tw.SetWebhook(twilioTestNumber, serveWebhook(t, webhook), "")
			sid := tw.SendText(twilioSteve, twilioTestNumber, "hi")
			var replies []string
			for _, l := range tw.Replies(twilioSteve) {
				replies = append(replies, l.Text)
			}
			if !slices.Equal(replies, c.wantReplies) {
				t.Errorf("replies = %q, want %q", replies, c.wantReplies)
			}
			if got := tw.Delivered(sid); got != c.wantDelivered {
				t.Errorf("Delivered = %v, want %v; attempts %+v", got, c.wantDelivered, tw.Attempts(sid))
			}
		})
	}
}

// By default Twilio retries once, and only if it cannot connect.
func TestTwilio_Retries(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	closed := "http://" + l.Addr().String()
	failing := serveWebhook(t, &webhookRecorder{status: 500, contentType: "text/xml"})
	missing := serveWebhook(t, &webhookRecorder{status: 404, contentType: "text/xml"})
	for name, c := range map[string]struct {
		url      string
		attempts int
	}{
		"closed port":                  {closed, 2},
		"closed port, no retries":      {closed + "#rc=0", 1},
		"500":                          {failing, 1},
		"500, retries for 5xx":         {failing + "#rc=3&rp=5xx", 4},
		"500, retries for 4xx":         {failing + "#rc=3&rp=4xx", 1},
		"404, retries for all":         {missing + "#rc=5&rp=all", 6},
		"404, retries above the limit": {missing + "#rc=99&rp=4xx,ct", 6},
	} {
		t.Run(name, func(t *testing.T) {
			tw, _ := newTestTwilio(t)
			fallback := &webhookRecorder{status: 200, contentType: "text/xml"}
			tw.SetWebhook(twilioTestNumber, c.url, serveWebhook(t, fallback))
			sid := tw.SendText(twilioSteve, twilioTestNumber, "hi")
			if attempts := tw.Attempts(sid); len(attempts) != c.attempts+1 || !tw.Delivered(sid) {
				t.Fatalf("attempts = %+v, want %d and a successful fallback", attempts, c.attempts)
			}
			primary, _, _ := strings.Cut(c.url, "#")
			form := fallback.forms[0]
			if form.Get("ErrorCode") != "11200" || form.Get("ErrorUrl") != primary || form.Get("MessageSid") != sid {
				t.Errorf("fallback form = %v, want error 11200 of %s", form, primary)
			}
		})
	}
}

func TestTwilio_IdempotencyToken(t *testing.T) {
	tw, _ := newTestTwilio(t)
	webhook := &webhookRecorder{status: 503, contentType: "text/xml"}
	u := serveWebhook(t, webhook)
	tw.SetWebhook(twilioTestNumber, u+"#rc=2&rp=all", u)
	tw.SendText(twilioSteve, twilioTestNumber, "hi")
	tokens := map[string]bool{}
	for _, header := range webhook.headers {
		tokens[header.Get("I-Twilio-Idempotency-Token")] = true
	}
	if len(webhook.headers) != 4 || len(tokens) != 1 || tokens[""] {
		t.Errorf("%d attempts with tokens %v, want 4 with the same one", len(webhook.headers), tokens)
	}
}

// The fragment of a URL limits the time for a webhook that does not respond.
func TestTwilio_Timeout(t *testing.T) {
	tw, _ := newTestTwilio(t)
	hanging := serveWebhook(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	tw.SetWebhook(twilioTestNumber, hanging+"#tt=50&rc=5&rp=all", "")
	sid := tw.SendText(twilioSteve, twilioTestNumber, "hi")
	if attempts := tw.Attempts(sid); len(attempts) != 1 || attempts[0].Err == nil {
		t.Errorf("attempts = %+v, want one that fails", attempts)
	}
}

func TestTwilio_Close(t *testing.T) {
	tw, _ := newTestTwilio(t)
	received := make(chan struct{})
	tw.SetWebhook(twilioTestNumber, serveWebhook(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(received)
		<-r.Context().Done()
	})), "")
	sids := make(chan string)
	go func() { sids <- tw.SendText(twilioSteve, twilioTestNumber, "hi") }()
	<-received
	tw.Close()
	if sid := <-sids; tw.Delivered(sid) {
		t.Error("Delivered of a webhook canceled by Close = true, want false")
	}
	if sid := tw.SendText(twilioSteve, twilioTestNumber, "hi"); len(tw.Attempts(sid)) != 0 {
		t.Errorf("attempts after Close = %+v, want none", tw.Attempts(sid))
	}
}

func TestTwilio_Keywords(t *testing.T) {
	tw, _ := newTestTwilio(t)
	for _, c := range []struct {
		text         string
		wantOptedOut bool
		wantLines    int // sent by Twilio so far
	}{{"stop please", false, 0}, {" Stop ", true, 1}, {"HELP", true, 2}, {"start", false, 3}, {"YES", false, 3}} {
		tw.SendText(twilioSteve, twilioTestNumber, c.text)
		lines := 0
		for _, l := range tw.Lines(twilioSteve) {
			if l.Sender == "twilio" {
				lines++
			}
		}
		if got := tw.OptedOut(twilioSteve, twilioTestNumber); got != c.wantOptedOut || lines != c.wantLines {
			t.Errorf("after %q: OptedOut = %v with %d lines of Twilio, want %v with %d",
				c.text, got, lines, c.wantOptedOut, c.wantLines)
		}
	}
	if sid := tw.SendText(twilioSteve, "+15005550009", "hi"); sid != "" {
		t.Errorf("SendText to an unknown number = %q, want \"\"", sid)
	}
}

func TestTwilio_Faults(t *testing.T) {
	tw, origin := newTestTwilio(t)
	u := origin + "/2010-04-01/Accounts/" + twilioAccountSID + "/Messages.json"
	form := url.Values{"To": {twilioSteve}, "From": {twilioTestNumber}, "Body": {"hello"}}
	tw.Arm("Messages.create", Fault{Status: 429, Body: "{}"}, Fault{Hang: true})
	status, _ := callTwilio(t, http.MethodPost, u, twilioAccountSID, twilioAuthToken, form)
	if status != 429 || len(tw.Replies("")) != 0 {
		t.Errorf("response = %d with messages %v, want 429 without", status, tw.Replies(""))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
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
		t.Error("a hanging call returned a response")
	}
}
