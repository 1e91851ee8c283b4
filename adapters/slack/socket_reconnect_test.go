package slack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
	"hydragate/adapters/slack"
)

// TestSocket_NoLossInBurst checks that every message is stored once although connections are cut,
// stalled and replaced during a burst and the store fails at times.
func TestSocket_NoLossInBurst(t *testing.T) {
	const messages = 250
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		s.RetryScale = 0.5 // attempts after 30 and another 150 seconds
		var turns int
		kept := &adaptertest.Store{NextErr: func() error {
			if turns++; turns%7 == 0 {
				return errors.New("busy")
			}
			return nil
		}}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add) // a second connection, as during a hand-over
		synctest.Wait()
		random := rand.New(rand.NewPCG(1, 2))
		trouble := []func(){
			func() { s.CutSockets(appID) },
			func() { s.StallSockets(appID) },
			func() { s.DisconnectSockets(appID, "warning") },
			func() { s.DisconnectSockets(appID, "refresh_requested") },
			func() { s.Arm("socket", simulator.Fault{Cut: true}) },
			func() { s.Arm("socket", simulator.Fault{Hang: true}) },
			func() { s.Arm("socket", simulator.Fault{Body: `{"envelope_id":"e","type":`}) },
			func() { s.Arm("apps.connections.open", simulator.Fault{Status: 500}) },
			func() { s.Arm("link", simulator.Fault{Status: 503}) },
			func() { s.DropAcks(true); adaptertest.Advance(50 * time.Millisecond); s.DropAcks(false) },
		}
		var deliveries []pendingDelivery
		for i := range messages {
			deliveries = append(deliveries, sendText(t, s, fmt.Sprint("message ", i)))
			adaptertest.Advance(time.Duration(random.IntN(100)) * time.Millisecond)
			if i%12 == 11 {
				trouble[i/12%len(trouble)]()
			}
		}
		if kept.Cursor() != "" {
			t.Errorf("cursor = %q, want none in Socket Mode", kept.Cursor())
		}
		again := 0
		for i, d := range deliveries {
			got := <-d
			if !got.Accepted() {
				t.Errorf("Slack gave up on message %d: %+v", i, got.Attempts)
			}
			again += len(got.Attempts) - 1
		}
		var texts []string
		for _, m := range kept.Messages() {
			if m.Kind != adapters.Undecodable {
				texts = append(texts, m.Text)
			}
		}
		slices.Sort(texts)
		if n := len(slices.Compact(slices.Clone(texts))); n != messages || len(texts) != messages {
			t.Errorf("%d messages stored, %d of them distinct, want %d of both", len(texts), n, messages)
		}
		if again < 20 {
			t.Errorf("only %d deliveries were repeated: the faults had no effect", again)
		}
		t.Logf("%d messages, %d redeliveries, %d store calls", messages, again, kept.Calls())
	})
}

// TestSocket_ReplacedBeforeClose checks that after a disconnect warning messages on the old connection are
// stored, and that the new one is open before the old one ends.
func TestSocket_ReplacedBeforeClose(t *testing.T) {
	for _, reason := range []string{"warning", "refresh_requested", "something_new"} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newSocketSimulator(t)
				kept := &adaptertest.Store{}
				adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
				synctest.Wait()
				s.DisconnectSockets(appID, reason)
				s.ExpectAck("e1")
				s.SendFrame(appID, encodeFrame(t, "events_api", "e1", readRecording(t, "events/im_text.json")))
				synctest.Wait()
				if n := len(kept.Messages()); n != 1 || len(s.AckedEnvelopes()) != 1 {
					t.Errorf("%d messages of the old connection stored, %d acknowledged, want all of them", n, len(s.AckedEnvelopes()))
				}
				adaptertest.Advance(2 * time.Second)
				if n := s.SocketCount(appID); n != 1 {
					t.Errorf("%d new connections while the old one is open, want 1", n)
				}
				if d := <-sendText(t, s, "hello"); len(d.Attempts) != 1 || !d.Accepted() {
					t.Errorf("delivery on the new connection = %+v, want one attempt", d)
				}
				adaptertest.Advance(time.Minute)
				if n := s.SocketCount(appID); n != 1 {
					t.Errorf("%d connections in the end, want 1", n)
				}
			})
		})
	}
}

// TestSocket_ReconnectDelay checks that the delays between connections grow while connections end soon, and
// not after one that was of use: through which something was stored, or that lasted.
func TestSocket_ReconnectDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		var log bytes.Buffer
		a.Log = slog.New(slog.NewTextHandler(&log, nil))
		kept := &adaptertest.Store{}
		stop := adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		reconnect := func() time.Duration {
			start := time.Now()
			for s.CutSockets(appID); s.SocketCount(appID) == 0 || time.Since(start) == 0; {
				adaptertest.Advance(200 * time.Millisecond)
			}
			return time.Since(start)
		}
		for name, use := range map[string]func(){
			"stored": func() { <-sendText(t, s, "hello") },
			"lasted": func() { adaptertest.Advance(31 * time.Second) },
		} {
			for range 8 {
				reconnect()
			}
			if delay := reconnect(); delay < 5*time.Second {
				t.Errorf("reconnected %v after the ninth short connection, want a longer delay", delay)
			}
			if use(); reconnect() > 2*time.Second {
				t.Errorf("%s: long delay after a connection that was of use", name)
			}
		}
		if err := stop(); !errors.Is(err, context.Canceled) || strings.Count(log.String(), "replacing socket") != 20 {
			t.Errorf("Poll() = %v, want Canceled and 20 entries about replaced connections, log:\n%s", err, &log)
		}
	})
}

func TestSocket_StallDetected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		adaptertest.Advance(10 * time.Minute)
		calls := s.SocketCount(appID)
		if calls != 1 || kept.Calls() != 0 {
			t.Fatalf("%d connections, %d store calls; want an idle connection to stay open", calls, kept.Calls())
		}
		s.StallSockets(appID)
		d := sendText(t, s, "hello")
		adaptertest.Advance(45 * time.Second)
		if n := s.SocketCount(appID); n != 1 {
			t.Errorf("%d connections after the stalled one was detected, want 1", n)
		}
		if got := <-d; !got.Accepted() || kept.Texts() != "hello" {
			t.Errorf("stored %q after %+v, want hello", kept.Texts(), got)
		}
	})
}

func TestSocket_Faults(t *testing.T) {
	const open, link = "apps.connections.open", "link"
	reports := func(body string) []simulator.Fault { return []simulator.Fault{{Status: 200, Body: body}} }
	for name, c := range map[string]struct {
		call        string
		faults      []simulator.Fault
		least, most time.Duration
	}{
		"none": {open, nil, 0, 0},
		"throttled": {
			open,
			[]simulator.Fault{{Status: 429, Header: http.Header{"Retry-After": {"40"}}}},
			40 * time.Second,
			41 * time.Second,
		},
		"rate limited": {open, reports(`{"ok":false,"error":"ratelimited"}`), 200 * time.Millisecond, time.Second},
		"bad gateway":  {open, []simulator.Fault{{Status: 502, Body: "<html>"}}, 200 * time.Millisecond, time.Second},
		"HTML":         {open, reports("<html>"), 200 * time.Millisecond, time.Second},
		"not found":    {open, []simulator.Fault{{Status: 404}}, 200 * time.Millisecond, time.Second},
		"forbidden":    {open, []simulator.Fault{{Status: 403}}, 200 * time.Millisecond, time.Second},
		"cut off":      {open, []simulator.Fault{{Cut: true}, {Cut: true}}, 400 * time.Millisecond, 3 * time.Second},
		"no answer":    {open, []simulator.Fault{{Hang: true}}, 10 * time.Second, 11 * time.Second},
		"internal":     {open, reports(`{"ok":false,"error":"internal_error"}`), 200 * time.Millisecond, time.Second},
		"no URL":       {open, reports(`{"ok":true}`), 200 * time.Millisecond, time.Second},
		"elsewhere": {
			open, reports(`{"ok":true,"url":"ws://evil.test/link/?ticket=ticket-1"}`), 200 * time.Millisecond, time.Second,
		},
		"many in a row": {open, slices.Repeat([]simulator.Fault{{Status: 500}}, 30), time.Minute, 30 * time.Minute},
		"no upgrade": {
			link, []simulator.Fault{{Status: 401, Body: "no such ticket"}}, 200 * time.Millisecond, time.Second,
		},
		"no handshake":  {link, []simulator.Fault{{Hang: true}}, 10 * time.Second, 11 * time.Second},
		"handshake cut": {link, []simulator.Fault{{Cut: true}}, 200 * time.Millisecond, time.Second},
		"redirected": {
			link,
			[]simulator.Fault{{Status: 302, Header: http.Header{"Location": {"http://evil.test/"}}}},
			200 * time.Millisecond, time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newSocketSimulator(t)
				s.Timeout = time.Hour // long enough to wait for a connection
				s.Arm(c.call, c.faults...)
				start := time.Now()
				kept := &adaptertest.Store{}
				adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
				if d := <-sendText(t, s, "hello"); !d.Accepted() || kept.Texts() != "hello" {
					t.Fatalf("stored %q after %+v, want hello", kept.Texts(), d)
				}
				if waited := time.Since(start); waited < c.least || waited > c.most {
					t.Errorf("connected after %v, want %v to %v", waited, c.least, c.most)
				}
			})
		})
	}
}

// TestSocket_TooManyConnections checks that the adapter backs off if there are too many connections, and
// that it reports this.
func TestSocket_TooManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{}
		for range 10 {
			adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		}
		synctest.Wait()
		var se *adapters.SendError
		err := a.Poll(t.Context(), socketEndpoint(), "", kept.Add)
		if !errors.As(err, &se) || se.Reason != adapters.Refused || se.Code != "too_many_websockets" {
			t.Errorf("Poll() with ten other connections = %v, want the reason of Slack", err)
		}
		adaptertest.Advance(time.Minute)
		if n := s.SocketCount(appID); n != 10 {
			t.Errorf("%d connections; Slack allows 10", n)
		}
		if d := <-sendText(t, s, "hello"); !d.Accepted() || kept.Texts() != "hello" {
			t.Errorf("stored %q, want hello", kept.Texts())
		}
	})
}

// TestSocket_EndlessHandshake checks that an endless handshake response is not read forever.
func TestSocket_EndlessHandshake(t *testing.T) {
	read := make(chan int64, 1)
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		s.SetURL("http://slack.test")
		plain := a.HTTP.Transport.(*http.Transport).DialContext
		var calls int
		var mu sync.Mutex
		a.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls != 2 { // the first asks for the ticket
				return plain(ctx, network, to)
			}
			here, there := net.Pipe()
			go func() {
				_, _ = there.Read(make([]byte, 4096))
				n, _ := io.Copy(there, endlessHandshake{})
				read <- n
			}()
			return here, nil
		}
		kept := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		adaptertest.Advance(time.Minute)
		if d := <-sendText(t, s, "hello"); !d.Accepted() {
			t.Errorf("not connected after an endless handshake: %+v", d)
		}
	})
	if n := <-read; n > 512<<10 {
		t.Errorf("%d bytes of the handshake were read", n)
	}
}

type endlessHandshake struct{}

func (endlessHandshake) Read(p []byte) (int, error) {
	head := "HTTP/1.1 101 Switching Protocols\r\nX: "
	for i := range p {
		p[i] = 'a'
	}
	copy(p, head)
	return len(p), nil
}

func TestSocket_URLHost(t *testing.T) {
	for api, addresses := range map[string]map[string]bool{
		"": {
			"wss://wss-primary.slack.com/link/?ticket=1":          true,
			"wss://slack.com/link/?ticket=1":                      true,
			"ws://wss-primary.slack.com/link/?ticket=1":           false,
			"https://wss-primary.slack.com/link/":                 false,
			"wss://evilslack.com/link/":                           false,
			"wss://slack.com.evil.example/link/":                  false,
			"wss://slack.com@evil.example/link/":                  false,
			"wss://steve@wss-primary.slack.com/link/":             false,
			"wss://wss-primary.slack.com:8443/link/":              false,
			"wss://169.254.169.254/latest/meta-data":              false,
			"//wss-primary.slack.com/link/":                       false,
			"wss:wss-primary.slack.com":                           false,
			"":                                                    false,
			"wss://wss-primary.slack.com/link/?ticket=1#fragment": false,
		},
		"http://127.0.0.1:4711/api/": {
			"ws://127.0.0.1:4711/link/?ticket=1": true,
			"ws://127.0.0.1:4712/link/?ticket=1": false,
			"wss://127.0.0.1:4711/link/":         false,
			"wss://wss-primary.slack.com/link/":  false,
		},
		"https://slack-gov.com/api/": {
			"wss://wss-primary.slack-gov.com/link/": true,
			"wss://wss-primary.slack.com/link/":     false,
		},
	} {
		for address, want := range addresses {
			a := &slack.Adapter{APIURL: api, HTTP: &http.Client{Transport: socketURLTransport(address)}}
			if _, err := a.Check(t.Context(), socketEndpoint()); (err == nil) != want {
				t.Errorf("with the API at %q, connecting to %q = %v", api, address, err)
			}
		}
	}
}

// A socketURLTransport responds like Slack's API, with URLs of one address.
type socketURLTransport string

func (address socketURLTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := map[string]any{
		"ok":      true,
		"url":     string(address),
		"team_id": teamID,
		"user_id": botUserID,
		"bot_id":  "B0LAN0Z90",
		"bot":     map[string]string{"app_id": appID},
	}
	body, err := json.Marshal(answer)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, err
}
