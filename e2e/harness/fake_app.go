package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A FakeApp is the agent runtime: it hears signed events and answers them. It checks of
// each that it is signed, and that one id never stands for two events.
type FakeApp struct {
	Broadcast
	URL string

	Mu        sync.Mutex
	Secret    string
	ReplyText string // "" answers nothing; {text} is what was heard
	Failure   string // of "", "fails" and "hangs"
	Events    []receivedEvent
	position  int // events that the script has gone through
	Errs      []error
}

// receivedEvent is an event as it came the first time.
type receivedEvent struct {
	id         string // webhook-id
	Deliveries int
	Body       []byte
	event      map[string]any
}

func (m *FakeApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	answer, mood := m.recordEvent(r.Header, body)
	defer m.Notify()
	switch mood {
	case "fails":
		w.WriteHeader(http.StatusInternalServerError)
	case "hangs":
		m.Notify()
		<-r.Context().Done()
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}
}

func (m *FakeApp) recordEvent(h http.Header, body []byte) (answer []byte, mood string) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	e := receivedEvent{id: h.Get(standardwebhooks.HeaderWebhookID), Deliveries: 1, Body: body}
	if err := json.Unmarshal(body, &e.event); err != nil {
		m.Errs = append(m.Errs, fmt.Errorf("the agent heard something that is not JSON: %w", err))
	}
	hook, err := standardwebhooks.NewWebhook(m.Secret)
	if err == nil {
		err = hook.Verify(body, h)
	}
	if err != nil {
		m.Errs = append(m.Errs, fmt.Errorf("event %s is not signed as it must be: %w", e.id, err))
	}
	if i := slices.IndexFunc(m.Events, func(o receivedEvent) bool {
		return o.id == e.id || e.messageID() != "" && o.messageID() == e.messageID()
	}); i >= 0 {
		if m.Events[i].id != e.id || m.Events[i].messageID() != e.messageID() {
			m.Errs = append(m.Errs, fmt.Errorf("events %s and %s are both of message %s", m.Events[i].id, e.id, e.messageID()))
		}
		m.Events[i].Deliveries++
	} else {
		m.Events = append(m.Events, e)
	}
	if m.ReplyText == "" || e.messageID() == "" {
		return []byte("{}"), m.Failure
	}
	answer, err = json.Marshal(map[string]any{"replies": []any{map[string]any{"text": strings.ReplaceAll(m.ReplyText, "{text}", e.Field("text"))}}})
	if err != nil {
		m.Errs = append(m.Errs, err)
	}
	return answer, m.Failure
}

func (e receivedEvent) messageID() string { return e.Field("message_id") }

// Field gives a part of the event by its path below data. Parts of the sender need no
// path, "type" is the event's own, and what is not there is "".
func (e receivedEvent) Field(path string) string {
	var v any = e.event["data"]
	switch path {
	case "type":
		v, path = e.event, "type"
	case "role", "verified", "external_id", "customer_email", "customer_id", "identity_id", "display_name":
		path = "sender." + path
	}
	for _, key := range strings.Split(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (m *FakeApp) Update(change func()) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	change()
}

// ExpectEvent waits for the next event, which must be like this.
func (m *FakeApp) ExpectEvent(wants []string) error {
	err := m.WaitFor(EventTimeout, func() error {
		m.Mu.Lock()
		defer m.Mu.Unlock()
		if len(m.Events) <= m.position {
			return errors.New("the agent hears nothing more")
		}
		m.position++
		return nil
	})
	m.Mu.Lock()
	defer m.Mu.Unlock()
	if err := errors.Join(append(m.Errs, err)...); err != nil {
		return err
	}
	return m.Events[m.position-1].match(wants)
}

// ExpectRedelivery waits until the event gone through last was heard more than once.
func (m *FakeApp) ExpectRedelivery(wants []string) error {
	err := m.WaitFor(EventTimeout, func() error {
		m.Mu.Lock()
		defer m.Mu.Unlock()
		if m.Events[m.position-1].Deliveries == 1 {
			return errors.New("the agent heard it once and not again")
		}
		return errors.Join(m.Errs...)
	})
	m.Mu.Lock()
	defer m.Mu.Unlock()
	return errors.Join(err, m.Events[m.position-1].match(wants))
}

func (e receivedEvent) match(wants []string) error {
	for _, want := range wants {
		path, pattern, _ := strings.Cut(want, "=")
		re, err := regexp.Compile(`(?s)^(?:` + pattern + `)$`)
		if err != nil {
			return err
		}
		if got := e.Field(path); !re.MatchString(got) {
			return fmt.Errorf("the agent hears %s=%q in %s", path, got, e.Body)
		}
	}
	return nil
}
