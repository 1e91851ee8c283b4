package sms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

func sendErrorReason(t *testing.T, err error) adapters.Reason {
	t.Helper()
	var se *adapters.SendError
	if !errors.As(err, &se) {
		t.Fatalf("error = %v (%T), want a *SendError", err, err)
	}
	if strings.Contains(se.Error(), steve[1:]) || strings.Contains(se.Error(), testAuthToken) {
		t.Errorf("error %q contains a phone number or the token", se)
	}
	return se.Reason
}

func newID(t *testing.T) string {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// A reply whose response was lost is looked up and not sent twice.
func TestSend_Retry(t *testing.T) {
	for name, f := range map[string]simulator.Fault{"connection cut": {Cut: true}, "timeout": {Hang: true}} {
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			t.Run(name+"/"+string(ch), func(t *testing.T) {
				tw, a := newSimulator(t, ch)
				ep := endpoint(ch)
				chat := a.twilioAddress(steve)
				tw.SendText(chat, a.twilioAddress(testNumber), "hi")
				reply := adapters.Reply{ID: newID(t), To: steve, Chat: adapters.Chat{ID: steve}, Text: "once & only"}
				tw.Arm("Messages.create", f)
				ctx, cancel := context.WithCancel(t.Context())
				go func() { // ends the request once Twilio has accepted the message
					defer cancel()
					_, _ = tw.WaitReply(ctx, chat, 0)
				}()
				if _, err := a.Send(ctx, ep, reply); sendErrorReason(t, err) != adapters.Ambiguous {
					t.Fatalf("first Send = %v, want reason %q", err, adapters.Ambiguous)
				}
				first, err := tw.WaitReply(t.Context(), chat, 0)
				if err != nil {
					t.Fatal(err)
				}
				reply.MaybeSent = true
				sid, err := a.Send(t.Context(), ep, reply)
				if err != nil || sid != first.ID {
					t.Errorf("second Send = %q, %v, want %q, nil", sid, err, first.ID)
				}
				if n := len(tw.Replies(chat)); n != 1 {
					t.Errorf("the person receives %d messages, want 1", n)
				}
			})
		}
	}
}

// A message with the same text that is older than the reply is another message.
func TestSend_RetryIgnoresOlderMessage(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	older := adapters.Reply{ID: newID(t), To: steve, Text: "ok"}
	if _, err := a.Send(t.Context(), ep, older); err != nil {
		t.Fatal(err)
	}
	tw.SendText(steve, testNumber, "ok") // inbound, with the same text
	id := idAt(time.Now().Add(2 * clockSkew))
	sid, err := a.Send(t.Context(), ep, adapters.Reply{ID: id, To: steve, Text: "ok", MaybeSent: true})
	if err != nil || sid == "" {
		t.Fatalf("Send = %q, %v, want a SID", sid, err)
	}
	if n := len(tw.Replies(steve)); n != 2 {
		t.Errorf("the person receives %d messages, want 2", n)
	}
}

func TestSend_RetryLookupFails(t *testing.T) {
	reply := adapters.Reply{ID: newID(t), To: steve, Text: "hello", MaybeSent: true}
	for name, c := range map[string]struct {
		fault simulator.Fault
		want  adapters.Reason
	}{
		"unavailable":    {simulator.Fault{Status: 503}, adapters.Ambiguous},
		"throttled":      {simulator.Fault{Status: 429}, adapters.Ambiguous},
		"connection cut": {simulator.Fault{Cut: true}, adapters.Ambiguous},
		"bad secret":     {simulator.Fault{Status: 401}, adapters.BadSecret},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.Arm("Messages.list", c.fault, c.fault) // net/http may retry
			_, err := a.Send(t.Context(), endpoint(adapters.SMS), reply)
			if got := sendErrorReason(t, err); got != c.want {
				t.Errorf("Send = %v, reason %q, want %q", err, got, c.want)
			}
			if n := len(tw.Replies("")); n != 0 {
				t.Errorf("%d messages sent after a failed look-up, want 0", n)
			}
		})
	}
}

func TestEarliestAttempt(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		id   string
		want time.Time
	}{
		"UUID version 7":  {"0192f3a0-0000-7000-8000-000000000000", time.UnixMilli(0x0192f3a00000).Add(-clockSkew)},
		"part of a reply": {"0192f3a0-0000-7000-8000-000000000000:2", time.UnixMilli(0x0192f3a00000).Add(-clockSkew)},
		"UUID version 4":  {"0192f3a0-0000-4000-8000-000000000000", now.Add(-lookupWindow - clockSkew)},
		"short ID":        {"r1", now.Add(-lookupWindow - clockSkew)},
		"not a UUID":      {strings.Repeat("x", 40), now.Add(-lookupWindow - clockSkew)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := earliestAttempt(c.id, now); !got.Equal(c.want) {
				t.Errorf("earliestAttempt(%q) = %v, want %v", c.id, got, c.want)
			}
		})
	}
}

// The request has the addresses and the status callback. Environment variables of Twilio's
// libraries have no effect.
func TestSend_Request(t *testing.T) {
	for _, name := range []string{"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_REGION", "TWILIO_EDGE"} {
		t.Setenv(name, "evil")
	}
	requests := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Authorization"), string(body)}, " ")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"sid":"SM00000000000000000000000000000001"}`)
	}))
	defer srv.Close()
	authorization := "Basic " + base64.StdEncoding.EncodeToString([]byte(testAccountSID+":"+testAuthToken))
	for name, c := range map[string]struct {
		ch    adapters.Channel
		reply adapters.Reply
		want  string
	}{
		"SMS": {
			adapters.SMS,
			adapters.Reply{To: steve, Text: "a+b"},
			"Body=a%2Bb&From=%2B15005550006&To=%2B14155550101",
		},
		"other number and status callback": {
			adapters.SMS,
			adapters.Reply{
				Chat: adapters.Chat{ID: steve, Thread: "+15005550007"}, Text: "x", StatusURL: "https://g.example/s",
			},
			"Body=x&From=%2B15005550007&StatusCallback=https%3A%2F%2Fg.example%2Fs&To=%2B14155550101",
		},
		"number of another endpoint": {
			adapters.SMS,
			adapters.Reply{Chat: adapters.Chat{ID: steve, Thread: "+15005550008"}, Text: "x"},
			"Body=x&From=%2B15005550006&To=%2B14155550101",
		},
		"WhatsApp": {
			adapters.WhatsApp,
			adapters.Reply{To: steve, Text: "x"},
			"Body=x&From=whatsapp%3A%2B15005550006&To=whatsapp%3A%2B14155550101",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := Adapter{Name: c.ch, APIURL: srv.URL + "/"}
			ep := endpoint(c.ch)
			ep.Pool.Excluded = []adapters.ProviderAddress{{Channel: adapters.SMS, ID: "+15005550008"}}
			if _, err := a.Send(t.Context(), ep, c.reply); err != nil {
				t.Fatal(err)
			}
			want := "POST /2010-04-01/Accounts/" + testAccountSID + "/Messages.json " + authorization + " " + c.want
			if got := <-requests; got != want {
				t.Errorf("request = %s, want %s", got, want)
			}
		})
	}
}

func TestSend_BadCredentials(t *testing.T) {
	a := Adapter{Name: adapters.SMS, APIURL: "http://127.0.0.1:1"}
	for name, c := range map[string]adapters.Credentials{
		"none":        nil,
		"no token":    {adapters.AccountSID: testAccountSID},
		"path in SID": {adapters.AccountSID: "AC1/../../evil?x=", adapters.AuthToken: testAuthToken},
	} {
		t.Run(name, func(t *testing.T) {
			ep := endpoint(adapters.SMS)
			ep.Credentials = c
			_, err := a.Send(t.Context(), ep, adapters.Reply{To: steve, Text: "x"})
			if got := sendErrorReason(t, err); got != adapters.BadSecret {
				t.Errorf("Send = %v, reason %q, want %q", err, got, adapters.BadSecret)
			}
		})
	}
}

// The outcome is ambiguous only if a server accepted the connection.
func TestSend_Unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := Adapter{Name: adapters.SMS, APIURL: "http://" + l.Addr().String()}
	reply := adapters.Reply{To: steve, Text: "x"}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends the request once the server has received it
		defer cancel()
		if c, err := l.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	if _, err := a.Send(ctx, endpoint(adapters.SMS), reply); sendErrorReason(t, err) != adapters.Ambiguous {
		t.Errorf("Send to a server that does not respond = %v, want reason %q", err, adapters.Ambiguous)
	}
	_ = l.Close()
	if _, err := a.Send(t.Context(), endpoint(adapters.SMS), reply); sendErrorReason(t, err) != adapters.Unreachable {
		t.Errorf("Send to a closed port = %v, want reason %q", err, adapters.Unreachable)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.Send(canceled, endpoint(adapters.SMS), reply)
	if sendErrorReason(t, err) != adapters.Unreachable || !errors.Is(err, context.Canceled) {
		t.Errorf("Send with a canceled context = %v, want reason %q and context.Canceled", err, adapters.Unreachable)
	}
}

// Failed requests with large responses share one connection, so each response is read and closed.
func TestSend_ReusesConnection(t *testing.T) {
	var mu sync.Mutex
	opened := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html>"+strings.Repeat("x", 8<<10))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if s == http.StateNew {
			opened++
		}
	}
	srv.Start()
	defer srv.Close()
	a := Adapter{Name: adapters.SMS, APIURL: srv.URL, HTTP: srv.Client()}
	for range 30 {
		_, err := a.Send(t.Context(), endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "x"})
		if got := sendErrorReason(t, err); got != adapters.Unreachable {
			t.Fatalf("Send = %v, reason %q, want %q", err, got, adapters.Unreachable)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if opened != 1 {
		t.Errorf("%d connections opened, want 1", opened)
	}
}

// A response larger than the limit is not read to its end.
func TestSend_ResponseLimit(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"sid":"SM00000000000000000000000000000001","body":"`)
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 64<<10)); err != nil {
				return // the client has closed the connection
			}
		}
	}))
	defer srv.Close()
	a := Adapter{Name: adapters.SMS, APIURL: srv.URL}
	_, err := a.Send(t.Context(), endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "x"})
	if got := sendErrorReason(t, err); got != adapters.Ambiguous {
		t.Errorf("Send = %v, reason %q, want %q", err, got, adapters.Ambiguous)
	}
}

// TestSend_TooLong checks which errors of Twilio mean that shorter parts may be accepted.
func TestSend_TooLong(t *testing.T) {
	for code, want := range map[int]adapters.Reason{
		21617: adapters.TooLong, 21658: adapters.TooLong, 30019: adapters.TooLong,
		63021: adapters.Refused, 21211: adapters.Refused,
	} {
		tw, a := newSimulator(t, adapters.SMS)
		tw.Arm("Messages.create", simulator.Fault{Status: 400, Body: fmt.Sprintf(`{"code":%d,"status":400}`, code)})
		_, err := a.Send(t.Context(), endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "hello"})
		if got := sendErrorReason(t, err); got != want {
			t.Errorf("Send after error %d = %v, reason %q, want %q", code, err, got, want)
		}
	}
}

func TestSend_OptedOut(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	reply := adapters.Reply{To: steve, Text: "hello"}
	tw.SendText(steve, testNumber, "stop")
	_, err := a.Send(t.Context(), endpoint(adapters.SMS), reply)
	if got := sendErrorReason(t, err); got != adapters.OptedOut {
		t.Fatalf("Send after STOP = %v, reason %q, want %q", err, got, adapters.OptedOut)
	}
	tw.SendText(steve, testNumber, "START")
	if _, err := a.Send(t.Context(), endpoint(adapters.SMS), reply); err != nil {
		t.Fatalf("Send after START: %v", err)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-1": 0, "soon": 0, "999999999999": maxRetryAfter, "99999999999999999999": 0,
		now.Add(7 * time.Second).Format(http.TimeFormat): 7 * time.Second,
		now.Add(-time.Minute).Format(http.TimeFormat):    0,
	} {
		if got := parseRetryAfter(in, now); got != want {
			t.Errorf("parseRetryAfter(%q) = %v, want %v", in, got, want)
		}
	}
}

// TestSend_Route checks that a reply comes from the address to which the person wrote, if that still
// belongs to the Messaging Service, and goes to the person in the same form.
func TestSend_Route(t *testing.T) {
	pool := adapters.Pool{
		ID:       testServiceSID,
		Excluded: []adapters.ProviderAddress{{Channel: adapters.SMS, ID: "+15550002222"}},
	}
	for _, c := range []struct {
		channel          adapters.Channel
		pool             adapters.Pool
		thread, chat     string
		wantFrom, wantTo string
	}{
		{adapters.SMS, pool, "", steve, testNumber, steve},
		{adapters.SMS, pool, "rcs:acme_agent", steve, "rcs:acme_agent", "rcs:" + steve},
		{adapters.SMS, adapters.Pool{}, "rcs:acme_agent", steve, testNumber, steve},
		{adapters.SMS, pool, "messenger:1093281", "messenger:2846137352", "messenger:1093281", "messenger:2846137352"},
		{adapters.SMS, pool, "+15550003333", steve, "+15550003333", steve},
		{adapters.SMS, pool, "+15550002222", steve, testNumber, steve},
		{
			adapters.WhatsApp, pool, "", "US.13491208655302741918", "whatsapp:" + testNumber,
			"whatsapp:US.13491208655302741918",
		},
		{adapters.WhatsApp, pool, "", "+5215512345678", "whatsapp:" + testNumber, "whatsapp:+5215512345678"},
	} {
		ep := endpoint(c.channel)
		ep.Pool = c.pool
		p := Adapter{Name: c.channel}.messageParams(ep, adapters.Reply{
			To: "+525512345678", Chat: adapters.Chat{ID: c.chat, Thread: c.thread}, Text: "hi",
		})
		if *p.From != c.wantFrom || *p.To != c.wantTo {
			t.Errorf("reply to %q from %q: From %q, To %q, want %q, %q", c.chat, c.thread, *p.From, *p.To, c.wantFrom, c.wantTo)
		}
	}
}

// TestSend_Recipient tests to which of the addresses of a person a reply is sent.
func TestSend_Recipient(t *testing.T) {
	const user, parent, displayed = "US.111", "US.ENT.3", "+5215512345678"
	for _, c := range []struct{ to, chat, address, want string }{
		{to: steve, want: steve},
		{to: "+525512345678", chat: displayed, want: displayed},
		{to: "+525512345678", chat: displayed, address: user, want: displayed},
		{to: user, chat: user, want: user},
		{to: user, chat: user, address: displayed, want: displayed},
		{to: user, chat: user, address: parent, want: parent},
	} {
		p := Adapter{Name: adapters.WhatsApp}.messageParams(endpoint(adapters.WhatsApp), adapters.Reply{
			To: c.to, Chat: adapters.Chat{ID: c.chat, Address: c.address},
		})
		if *p.To != "whatsapp:"+c.want {
			t.Errorf("To of %+v = %q, want %q", c, *p.To, c.want)
		}
	}
}
