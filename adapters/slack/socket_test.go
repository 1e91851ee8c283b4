package slack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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

const appToken = "xapp-1-A0KRD7HC3-2157151564-a9p9t0kenOfTheTests"

func socketEndpoint() adapters.Endpoint {
	ep := endpoint()
	ep.Mode = adapters.Socket
	ep.Credentials[adapters.AppToken] = appToken
	return ep
}

// newSocketSimulator starts a simulated Slack in memory whose app uses Socket Mode. At the end of the
// test it checks that the log contains no token and no connection URL.
func newSocketSimulator(t *testing.T) (*simulator.Slack, *slack.Adapter) {
	t.Helper()
	s := simulator.NewSlack()
	w := newPipeListener()
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(w) })
	var log bytes.Buffer
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
		for _, secret := range []string{appToken, botToken, "ticket-"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log contains %q:\n%s", secret, &log)
			}
		}
	})
	s.SetURL("http://slack.test")
	s.AddApp(simulator.SlackApp{
		AppID:         appID,
		TeamID:        teamID,
		TeamName:      "Example",
		BotUserID:     botUserID,
		BotID:         "B0LAN0Z90",
		Token:         botToken,
		SigningSecret: signingSecret,
		AppToken:      appToken,
	})
	s.AddUser(steve)
	return s, &slack.Adapter{
		APIURL: s.APIURL(), HTTP: &http.Client{Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}},
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(&lockedWriter{w: &log}, t.Output()), nil)),
	}
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A pendingDelivery is a delivery in progress.
type pendingDelivery chan simulator.SlackDelivery

func sendText(t *testing.T, s *simulator.Slack, text string) pendingDelivery {
	t.Helper()
	done := make(pendingDelivery, 1)
	go func() {
		d, err := s.SendText(t.Context(), appID, steve, text)
		if err != nil {
			t.Error(err)
		}
		done <- d
	}()
	return done
}

// observeAcks reports whether Slack receives an acknowledgement while the message is being stored,
// and whether it receives one afterwards.
func observeAcks(t *testing.T, wrap func(adaptertest.HandleFunc) adaptertest.HandleFunc) (soon, ever bool) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		stored := make(chan struct{})
		handle := func(ctx context.Context, _ []adapters.Message, _ string) error {
			select {
			case <-stored:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", wrap(handle))
		synctest.Wait()
		done := sendText(t, s, "hello")
		adaptertest.Advance(2 * time.Second)
		soon = len(s.AckedEnvelopes()) > 0
		close(stored)
		synctest.Wait()
		ever = len(s.AckedEnvelopes()) == 1 && (<-done).Accepted()
	})
	return soon, ever
}

func TestSocket_AcksAfterStore(t *testing.T) {
	unchanged := func(handle adaptertest.HandleFunc) adaptertest.HandleFunc { return handle }
	if soon, ever := observeAcks(t, unchanged); soon || !ever {
		t.Errorf("acknowledged before the store: %v, after it: %v, want false, true", soon, ever)
	}
	ackBeforeStore := func(handle adaptertest.HandleFunc) adaptertest.HandleFunc {
		return func(ctx context.Context, ms []adapters.Message, cursor string) error {
			go func() { _ = handle(ctx, ms, cursor) }()
			return nil
		}
	}
	if soon, _ := observeAcks(t, ackBeforeStore); !soon {
		t.Error("observeAcks did not detect an acknowledgement before the store")
	}
}

func TestSocket_NoAckWhenNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		back := time.Now().Add(10 * time.Second)
		kept := &adaptertest.Store{NextErr: func() error {
			if time.Now().Before(back) {
				return errors.New("database unavailable")
			}
			return nil
		}}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		message := sendText(t, s, "hello")
		adaptertest.Advance(9 * time.Second)
		if len(s.AckedEnvelopes()) != 0 || kept.Texts() != "" {
			t.Fatalf("while the store fails: %d acknowledged, stored %q, want neither", len(s.AckedEnvelopes()), kept.Texts())
		}
		d := <-message
		if kept.Texts() != "hello" || !d.Accepted() || len(d.Attempts) != 3 {
			t.Errorf("stored %q after %d attempts, want hello, once, at the third", kept.Texts(), len(d.Attempts))
		}
	})
}

// TestSocket_Batches checks that envelopes that arrive while the store is busy are stored together, at
// most 32 at a time.
func TestSocket_Batches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		var sizes []int
		free := make(chan struct{})
		handle := func(_ context.Context, batch []adapters.Message, _ string) error {
			sizes = append(sizes, len(batch))
			<-free
			return nil
		}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", handle)
		synctest.Wait()
		for i := range 40 {
			sendText(t, s, fmt.Sprint("message ", i))
			synctest.Wait()
		}
		close(free)
		synctest.Wait()
		if len(sizes) < 2 || sizes[0] != 1 || sizes[1] != 32 {
			t.Errorf("batches of %v messages, want one and then 32", sizes)
		}
	})
}

// TestSocket_StoreRetry checks that a failed store is retried while Slack waits.
func TestSocket_StoreRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		failures := 2
		kept := &adaptertest.Store{NextErr: func() error {
			if failures--; failures >= 0 {
				return errors.New("busy")
			}
			return nil
		}}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		d := <-sendText(t, s, "hello")
		if kept.Texts() != "hello" || len(d.Attempts) != 1 || !d.Accepted() {
			t.Errorf("stored %q after %d attempts, want hello at the first", kept.Texts(), len(d.Attempts))
		}
	})
}

// TestSocket_StoreRetryEnds checks that a failed store is not retried once Slack redelivers the message.
func TestSocket_StoreRetryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		start, last := time.Now(), time.Duration(0)
		kept := &adaptertest.Store{NextErr: func() error { last = time.Since(start); return errors.New("busy") }}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		s.SendFrame(appID, encodeFrame(t, "events_api", "e1", readRecording(t, "events/im_text.json")))
		adaptertest.Advance(time.Minute)
		if kept.Calls() < 3 || last > 3*time.Second {
			t.Errorf("%d store calls, the last after %v, want several within three seconds", kept.Calls(), last)
		}
	})
}

// TestSocket_LostAck checks that a message whose acknowledgement was lost is stored once.
func TestSocket_LostAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		s.DropAcks(true)
		done := sendText(t, s, "hello")
		adaptertest.Advance(2 * time.Second)
		s.DropAcks(false)
		if d := <-done; len(d.Attempts) != 2 || !d.Accepted() || kept.Texts() != "hello" || kept.Calls() != 2 {
			t.Errorf("stored %q in %d store calls and %d attempts, want two attempts and one stored message", kept.Texts(),
				kept.Calls(), len(d.Attempts))
		}
	})
}

func TestSocket_CommandsAndButtons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		got, err := s.SendCommand(t.Context(), appID, steve, "C1", "/claim", "WDJBMJ")
		if err != nil || got != (simulator.SlackResponse{Status: 200, ResponseType: "ephemeral", Text: "One moment …"}) {
			t.Errorf("%+v, %v", got, err)
		}
		if p, err := s.PressButton(t.Context(), appID, steve, "", "yes"); err != nil || p.Err != nil || p.Status != 200 {
			t.Errorf("%+v, %v", p, err)
		}
		ms := kept.Messages()
		if kept.Cursor() != "" {
			t.Errorf("cursor = %q, want none in Socket Mode", kept.Cursor())
		}
		if len(ms) != 2 || ms[0].Command == nil || ms[0].Command.Args != "WDJBMJ" || ms[0].Sender.ID != steve.Chat() ||
			ms[0].Chat.Group || ms[0].UnprovenReason != "" || ms[1].Kind != adapters.Callback || ms[1].Action != "yes" {
			t.Fatalf("stored %+v, want the command and the button", ms)
		}
		// The response URL belongs to the simulator and accepts replies.
		id, err := a.Send(
			t.Context(),
			socketEndpoint(),
			adapters.Reply{ID: "r1", To: ms[0].Sender.ID, Chat: ms[0].Chat, Text: "done"},
		)
		if err != nil || !strings.HasPrefix(id, "ephemeral:") {
			t.Errorf("answered as %q, %v", id, err)
		}
	})
}

func TestSocket_CommandNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{NextErr: func() error { return errors.New("database unavailable") }}
		stop := adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		if got, err := s.SendCommand(t.Context(), appID, steve, "", "/claim", "WDJBMJ"); err == nil {
			t.Errorf("response = %+v, want an error", got)
		}
		if len(s.AckedEnvelopes()) != 0 {
			t.Error("acknowledged a message that was not stored")
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v, want context.Canceled", err)
		}
	})
}

func TestSocket_CanceledDuringStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		begun := make(chan struct{})
		handle := func(ctx context.Context, _ []adapters.Message, _ string) error {
			close(begun)
			<-ctx.Done()
			return nil // stored anyway
		}
		stop := adaptertest.StartPolling(t, a, socketEndpoint(), "", handle)
		synctest.Wait()
		done := sendText(t, s, "hello")
		<-begun
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if d := <-done; !d.Accepted() {
			t.Errorf("%+v, want stored messages acknowledged before Poll returns", d)
		}
		synctest.Wait()
		if n := s.SocketCount(appID); n != 0 {
			t.Errorf("%d connections after Poll has returned, want none", n)
		}
	})
}

// A pipeListener connects a client and a server in memory, so that both run in one synctest bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (w *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *pipeListener) Close() error { close(w.closed); return nil }

func (w *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (w *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.conns <- newBufferedConn(there):
		return newBufferedConn(here), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A bufferedConn is an end of a pipe whose writes do not wait for the reader, as with a socket.
type bufferedConn struct {
	net.Conn
	mu     sync.Mutex
	out    chan []byte
	closed bool
}

func newBufferedConn(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, out: make(chan []byte, 4096)}
	go func() {
		defer func() { _ = c.Close() }()
		for p := range b.out {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}()
	return b
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	select {
	case b.out <- bytes.Clone(p):
		return len(p), nil
	default:
		return 0, errors.New("no reader")
	}
}

func (b *bufferedConn) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.out)
	}
	return nil
}

func (b *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
