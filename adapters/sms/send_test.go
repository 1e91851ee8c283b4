package sms

import (
	"context"
	"encoding/base64"
	"errors"
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
		t.Fatalf("%v (%T); want a *SendError", err, err)
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

// A reply whose answer was lost is looked up and not sent twice.
func TestSend_Retry(t *testing.T) {
	for name, f := range map[string]simulator.Fault{"Cut": {Cut: true}, "Hang": {Hang: true}} {
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			t.Run(name+"/"+string(ch), func(t *testing.T) {
				tw, a := newSimulator(t, ch)
				ep := endpoint(ch)
				chat := a.twilioAddress(steve)
				tw.SendText(chat, a.twilioAddress(testNumber), "hi")
				reply := adapters.Reply{ID: newID(t), To: steve, Chat: adapters.Chat{ID: steve}, Text: "once & only"}
				tw.Arm("Messages.create", f)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if _, err := a.Send(ctx, ep, reply); sendErrorReason(t, err) != adapters.Ambiguous {
					t.Fatal(err)
				}
				first, err := tw.WaitReply(t.Context(), chat, 0)
				if err != nil {
					t.Fatal(err)
				}
				reply.MaybeSent = true
				sid, err := a.Send(t.Context(), ep, reply)
				if err != nil || sid != first.ID {
					t.Errorf("again: %q, %v; want %q", sid, err, first.ID)
				}
				if n := len(tw.Replies(chat)); n != 1 {
					t.Errorf("Steve reads it %d times", n)
				}
			})
		}
	}
}

// An equal text that is older than the reply is another message.
func TestSend_RetryIgnoresOlderMessage(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	ep := endpoint(adapters.SMS)
	old := adapters.Reply{ID: newID(t), To: steve, Text: "ok"}
	if _, err := a.Send(t.Context(), ep, old); err != nil {
		t.Fatal(err)
	}
	tw.SendText(steve, testNumber, "ok") // said by Steve, not to him
	id := uuid.Must(uuid.NewV7())
	at := time.Now().Add(time.Minute).UnixMilli()
	for i := range 6 {
		id[i] = byte(at >> (40 - 8*i))
	}
	sid, err := a.Send(t.Context(), ep, adapters.Reply{ID: id.String(), To: steve, Text: "ok", MaybeSent: true})
	if err != nil || sid == "" {
		t.Fatal(sid, err)
	}
	if n := len(tw.Replies(steve)); n != 2 {
		t.Errorf("Steve reads %d answers; want 2", n)
	}
}

func TestSend_RetryLookupFails(t *testing.T) {
	reply := adapters.Reply{ID: newID(t), To: steve, Text: "hello", MaybeSent: true}
	for name, c := range map[string]struct {
		fault simulator.Fault
		want  adapters.Reason
	}{
		"Away":      {simulator.Fault{Status: 503}, adapters.Ambiguous},
		"Throttled": {simulator.Fault{Status: 429}, adapters.Ambiguous},
		"Cut":       {simulator.Fault{Cut: true}, adapters.Ambiguous},
		"BadSecret": {simulator.Fault{Status: 401}, adapters.BadSecret},
	} {
		t.Run(name, func(t *testing.T) {
			tw, a := newSimulator(t, adapters.SMS)
			tw.Arm("Messages.list", c.fault, c.fault) // net/http may ask again by itself
			_, err := a.Send(t.Context(), endpoint(adapters.SMS), reply)
			if got := sendErrorReason(t, err); got != c.want {
				t.Errorf("%q; want %q", got, c.want)
			}
			if n := len(tw.Replies("")); n != 0 {
				t.Errorf("sent %d messages without knowing", n)
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
		"UUIDv7":     {"0192f3a0-0000-7000-8000-000000000000", time.UnixMilli(0x0192f3a00000).Add(-clockSkew)},
		"PartOfOne":  {"0192f3a0-0000-7000-8000-000000000000:2", time.UnixMilli(0x0192f3a00000).Add(-clockSkew)},
		"OtherUUID":  {"0192f3a0-0000-4000-8000-000000000000", now.Add(-lookupWindow - clockSkew)},
		"OtherId":    {"r1", now.Add(-lookupWindow - clockSkew)},
		"LongNoUUID": {strings.Repeat("x", 40), now.Add(-lookupWindow - clockSkew)},
	} {
		if got := earliestAttempt(c.id, now); !got.Equal(c.want) {
			t.Errorf("%s: %v; want %v", name, got, c.want)
		}
	}
}

// What goes over the wire: addresses, the status callback, and nothing of the
// environment.
func TestSend_Request(t *testing.T) {
	for _, name := range []string{"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_REGION", "TWILIO_EDGE"} {
		t.Setenv(name, "evil")
	}
	var mu sync.Mutex
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"sid":"SM00000000000000000000000000000001"}`)
	}))
	defer srv.Close()
	place := adapters.Chat{ID: steve, Thread: "+15005550007"}
	for _, c := range []struct {
		ch    adapters.Channel
		reply adapters.Reply
		want  string
	}{
		{adapters.SMS, adapters.Reply{To: steve, Text: "a+b"}, "Body=a%2Bb&From=%2B15005550006&To=%2B14155550101"},
		{adapters.SMS, adapters.Reply{Chat: place, Text: "x", StatusURL: "https://g.example/s"}, "Body=x&From=%2B15005550007&StatusCallback=https%3A%2F%2Fg.example%2Fs&To=%2B14155550101"},
		{adapters.WhatsApp, adapters.Reply{To: steve, Text: "x"}, "Body=x&From=whatsapp%3A%2B15005550006&To=whatsapp%3A%2B14155550101"},
	} {
		a := Adapter{Name: c.ch, APIURL: srv.URL + "/"}
		if _, err := a.Send(t.Context(), endpoint(c.ch), c.reply); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(testAccountSID+":"+testAuthToken))
		if want := "POST /2010-04-01/Accounts/" + testAccountSID + "/Messages.json " + basic + " " + c.want; got[len(got)-1] != want {
			t.Errorf("sent %s\nwant %s", got[len(got)-1], want)
		}
		mu.Unlock()
	}
}

func TestSend_BadCredentials(t *testing.T) {
	a := Adapter{Name: adapters.SMS, APIURL: "http://127.0.0.1:1"}
	for name, c := range map[string]adapters.Credentials{
		"None":      nil,
		"NoToken":   {adapters.AccountSID: testAccountSID},
		"PathInSID": {adapters.AccountSID: "AC1/../../evil?x=", adapters.AuthToken: testAuthToken},
	} {
		ep := endpoint(adapters.SMS)
		ep.Credentials = c
		if _, err := a.Send(t.Context(), ep, adapters.Reply{To: steve, Text: "x"}); sendErrorReason(t, err) != adapters.BadSecret {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A machine that does not answer has not taken the message; one that took the
// connection may have.
func TestSend_Unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := Adapter{Name: adapters.SMS, APIURL: "http://" + l.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Send(ctx, endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "x"}); sendErrorReason(t, err) != adapters.Ambiguous {
		t.Errorf("silent server: %v", err)
	}
	_ = l.Close()
	if _, err := a.Send(t.Context(), endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "x"}); sendErrorReason(t, err) != adapters.Unreachable {
		t.Errorf("refused connection: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Send(gone, endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "x"}); sendErrorReason(t, err) != adapters.Unreachable || !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// Thirty failures with large bodies use one connection: every answer is read to its
// end and closed.
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
		if _, err := a.Send(t.Context(), endpoint(adapters.SMS), adapters.Reply{To: steve, Text: "x"}); sendErrorReason(t, err) != adapters.Unreachable {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if opened != 1 {
		t.Errorf("opened %d connections", opened)
	}
}

// STOP closes the chat until START, whatever the gateway does meanwhile.
func TestSend_OptedOut(t *testing.T) {
	tw, a := newSimulator(t, adapters.SMS)
	reply := adapters.Reply{To: steve, Text: "hello"}
	tw.SendText(steve, testNumber, "stop")
	_, err := a.Send(t.Context(), endpoint(adapters.SMS), reply)
	if sendErrorReason(t, err) != adapters.OptedOut {
		t.Fatal(err)
	}
	tw.SendText(steve, testNumber, "START")
	if _, err := a.Send(t.Context(), endpoint(adapters.SMS), reply); err != nil {
		t.Fatal(err)
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
			t.Errorf("%q: %v; want %v", in, got, want)
		}
	}
}
