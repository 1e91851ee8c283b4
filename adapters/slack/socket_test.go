package slack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
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

// plugged starts a pretend Slack inside the process whose app has Socket Mode on. When
// the test ends, the log may not tell a token or a ticket.
func plugged(t *testing.T) (*simulator.Slack, *slack.Adapter) {
	t.Helper()
	s := simulator.NewSlack()
	w := newWire()
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(w) })
	var log bytes.Buffer
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
		for _, secret := range []string{appToken, botToken, "ticket-"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log tells %q:\n%s", secret, &log)
			}
		}
	})
	s.SetURL("http://slack.test")
	s.AddApp(simulator.App{AppID: appID, TeamID: team, TeamName: "Example", BotUserID: botUser, BotID: "B0LAN0Z90", Token: botToken, SigningSecret: secret, AppToken: appToken})
	s.AddUser(steve)
	return s, &slack.Adapter{
		APIURL: s.APIURL(), HTTP: &http.Client{Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}},
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(&locked{to: &log}, t.Output()), nil)),
	}
}

type locked struct {
	mu sync.Mutex
	to *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// A shelf takes batches as the store does: each message once, by its keys.
type shelf struct {
	mu     sync.Mutex
	refuse func() error // asked before each take; nil takes all
	tries  int
	seen   map[string]bool
	kept   []adapters.Message
}

func (s *shelf) take(_ context.Context, batch []adapters.Message, cursor string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if cursor != "" {
		return errors.New("there is no cursor in Socket Mode")
	}
	if s.refuse != nil {
		if err := s.refuse(); err != nil {
			return err
		}
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	for _, m := range batch {
		if !s.seen[m.Key] {
			s.seen[m.Key] = true
			s.kept = append(s.kept, m)
		}
	}
	return nil
}

func (s *shelf) messages() []adapters.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]adapters.Message(nil), s.kept...)
}

func (s *shelf) texts() string {
	var texts []string
	for _, m := range s.messages() {
		texts = append(texts, m.Text)
	}
	return strings.Join(texts, "|")
}

type take = func(context.Context, []adapters.Message, string) error

// hearing runs Poll in the background until the test ends or stop is called.
func hearing(t *testing.T, a *slack.Adapter, ep adapters.Endpoint, take take) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Poll(ctx, ep, "", take) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// later lets time pass in a bubble, and then everything that is due.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A delivering is a delivery under way.
type delivering chan simulator.SlackDelivery

func say(t *testing.T, s *simulator.Slack, text string) delivering {
	t.Helper()
	done := make(delivering, 1)
	go func() {
		d, err := s.Message(t.Context(), appID, steve, text)
		if err != nil {
			t.Error(err)
		}
		done <- d
	}()
	return done
}

// ackedTooSoon reports whether Slack hears an acknowledgement while the message is still
// being taken, and whether it hears one after that.
func ackedTooSoon(t *testing.T, wrap func(take) take) (soon, ever bool) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		stored := make(chan struct{})
		hearing(t, a, socketEndpoint(), wrap(func(ctx context.Context, _ []adapters.Message, _ string) error {
			select {
			case <-stored:
			case <-ctx.Done():
			}
			return ctx.Err()
		}))
		synctest.Wait()
		done := say(t, s, "hello")
		later(2 * time.Second)
		soon = len(s.Acked()) > 0
		close(stored)
		synctest.Wait()
		ever = len(s.Acked()) == 1 && (<-done).Taken()
	})
	return soon, ever
}

func TestSocketAcknowledgesWhatIsStoredAndNothingElse(t *testing.T) {
	if soon, ever := ackedTooSoon(t, func(take take) take { return take }); soon || !ever {
		t.Errorf("acknowledged before it was stored: %v; after: %v", soon, ever)
	}
	hasty := func(take take) take {
		return func(ctx context.Context, ms []adapters.Message, cursor string) error {
			go func() { _ = take(ctx, ms, cursor) }()
			return nil
		}
	}
	if soon, _ := ackedTooSoon(t, hasty); !soon {
		t.Error("who acknowledges first and stores later is not noticed")
	}
}

func TestSocketLeavesToSlackWhatWasNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		back := time.Now().Add(10 * time.Second)
		kept := &shelf{refuse: func() error {
			if time.Now().Before(back) {
				return errors.New("database away")
			}
			return nil
		}}
		hearing(t, a, socketEndpoint(), kept.take)
		synctest.Wait()
		message := say(t, s, "hello")
		later(9 * time.Second)
		if len(s.Acked()) != 0 || kept.texts() != "" {
			t.Fatalf("while nothing is stored, %d acknowledged, kept %q", len(s.Acked()), kept.texts())
		}
		d := <-message
		if kept.texts() != "hello" || !d.Taken() || len(d.Attempts) != 3 {
			t.Errorf("kept %q after %d attempts; want hello, once, at the third", kept.texts(), len(d.Attempts))
		}
	})
}

// A take that fails for a moment is tried again while Slack still waits.
func TestSocketTriesAgainWhileSlackWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		failures := 2
		kept := &shelf{refuse: func() error {
			if failures--; failures >= 0 {
				return errors.New("busy")
			}
			return nil
		}}
		hearing(t, a, socketEndpoint(), kept.take)
		synctest.Wait()
		d := <-say(t, s, "hello")
		if kept.texts() != "hello" || len(d.Attempts) != 1 || !d.Taken() {
			t.Errorf("kept %q after %d attempts; want hello at the first", kept.texts(), len(d.Attempts))
		}
	})
}

// The message is stored and its acknowledgement lost: it comes again, and is one.
func TestSocketLostAcknowledgementsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		kept := &shelf{}
		hearing(t, a, socketEndpoint(), kept.take)
		synctest.Wait()
		s.LoseAcks(true)
		done := say(t, s, "hello")
		later(2 * time.Second)
		s.LoseAcks(false)
		if d := <-done; len(d.Attempts) != 2 || !d.Taken() || kept.texts() != "hello" || kept.tries != 2 {
			t.Errorf("kept %q of %d takes, %d attempts; want it twice, and kept once", kept.texts(), kept.tries, len(d.Attempts))
		}
	})
}

func TestSocketAnswersCommandsAndPresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		kept := &shelf{}
		hearing(t, a, socketEndpoint(), kept.take)
		synctest.Wait()
		got, err := s.Slash(t.Context(), appID, steve, "C1", "/claim", "WDJBMJ")
		if err != nil || got != (simulator.SlackAnswer{Status: 200, ResponseType: "ephemeral", Text: "One moment …"}) {
			t.Errorf("%+v, %v", got, err)
		}
		if p, err := s.Press(t.Context(), appID, steve, "", "yes"); err != nil || p.Err != nil || p.Status != 200 {
			t.Errorf("%+v, %v", p, err)
		}
		ms := kept.messages()
		if len(ms) != 2 || ms[0].Command == nil || ms[0].Command.Args != "WDJBMJ" || ms[0].Sender.ID != steve.Chat() || ms[0].Place.Group || ms[0].Unproven != "" ||
			ms[1].Kind != adapters.Callback || ms[1].Action != "yes" {
			t.Fatalf("%+v", ms)
		}
		// The address for answers is the pretend server's own, and takes them.
		id, err := a.Send(t.Context(), socketEndpoint(), adapters.Reply{ID: "r1", To: ms[0].Sender.ID, Place: ms[0].Place, Text: "done"})
		if err != nil || !strings.HasPrefix(id, "ephemeral:") {
			t.Errorf("answered as %q, %v", id, err)
		}
	})
}

func TestSocketCommandThatIsNotStoredIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		kept := &shelf{refuse: func() error { return errors.New("database away") }}
		stop := hearing(t, a, socketEndpoint(), kept.take)
		synctest.Wait()
		if got, err := s.Slash(t.Context(), appID, steve, "", "/claim", "WDJBMJ"); err == nil {
			t.Errorf("answered %+v", got)
		}
		if len(s.Acked()) != 0 {
			t.Error("acknowledged what nobody took")
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v; want context.Canceled", err)
		}
	})
}

func TestSocketEndsInTheMiddleOfATake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := plugged(t)
		begun := make(chan struct{})
		stop := hearing(t, a, socketEndpoint(), func(ctx context.Context, _ []adapters.Message, _ string) error {
			close(begun)
			<-ctx.Done()
			return nil // stored all the same
		})
		synctest.Wait()
		done := say(t, s, "hello")
		<-begun
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if d := <-done; !d.Taken() || s.Sockets(appID) != 0 {
			t.Errorf("%+v, %d connections; what was stored is acknowledged before the last goodbye", d, s.Sockets(appID))
		}
	})
}
