package main

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

	"github.com/rogpeppe/go-internal/testscript"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A mind is the agent runtime: it hears signed events and answers them. It checks of
// each that it is signed, and that one id never stands for two events.
type mind struct {
	bell
	url string

	mu     sync.Mutex
	secret string
	answer string // "" answers nothing; {text} is what was heard
	mood   string // of "", "fails" and "hangs"
	events []heard
	read   int // events that the script has gone through
	wrong  []error
}

// heard is an event as it came the first time.
type heard struct {
	id    string // webhook-id
	times int
	body  []byte
	event map[string]any
}

func (m *mind) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	answer, mood := m.hear(r.Header, body)
	defer m.ring()
	switch mood {
	case "fails":
		w.WriteHeader(http.StatusInternalServerError)
	case "hangs":
		m.ring()
		<-r.Context().Done()
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}
}

func (m *mind) hear(h http.Header, body []byte) (answer []byte, mood string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := heard{id: h.Get(standardwebhooks.HeaderWebhookID), times: 1, body: body}
	if err := json.Unmarshal(body, &e.event); err != nil {
		m.wrong = append(m.wrong, fmt.Errorf("the agent heard something that is not JSON: %w", err))
	}
	hook, err := standardwebhooks.NewWebhook(m.secret)
	if err == nil {
		err = hook.Verify(body, h)
	}
	if err != nil {
		m.wrong = append(m.wrong, fmt.Errorf("event %s is not signed as it must be: %w", e.id, err))
	}
	if i := slices.IndexFunc(m.events, func(o heard) bool { return o.id == e.id || e.message() != "" && o.message() == e.message() }); i >= 0 {
		if m.events[i].id != e.id || m.events[i].message() != e.message() {
			m.wrong = append(m.wrong, fmt.Errorf("events %s and %s are both of message %s", m.events[i].id, e.id, e.message()))
		}
		m.events[i].times++
	} else {
		m.events = append(m.events, e)
	}
	if m.answer == "" || e.message() == "" {
		return []byte("{}"), m.mood
	}
	answer, err = json.Marshal(map[string]any{"replies": []any{map[string]any{"text": strings.ReplaceAll(m.answer, "{text}", e.at("text"))}}})
	if err != nil {
		m.wrong = append(m.wrong, err)
	}
	return answer, m.mood
}

func (e heard) message() string { return e.at("message_id") }

// at gives a part of the event by its path below data. Parts of the sender need no
// path, "type" is the event's own, and what is not there is "".
func (e heard) at(path string) string {
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

// agent hears [again] PATH=REGEXP… | answers TEXT | fails | hangs | recovers
func (w *world) agent(ts *testscript.TestScript, args []string) error {
	m := w.mind
	switch {
	case len(args) > 1 && args[0] == "hears" && args[1] == "again":
		return m.hearsAgain(args[2:])
	case len(args) > 1 && args[0] == "hears":
		return m.hears(args[1:])
	case len(args) == 2 && args[0] == "answers":
		m.set(func() { m.answer = args[1] })
		return nil
	case len(args) == 1 && (args[0] == "fails" || args[0] == "hangs"):
		m.set(func() { m.mood = args[0] })
		return nil
	case len(args) == 1 && args[0] == "recovers":
		m.set(func() { m.mood = "" })
		return nil
	}
	return errors.New("usage: agent hears [again] PATH=REGEXP… | answers TEXT | fails | hangs | recovers")
}

func (m *mind) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// hears waits for the next event, which must be like this.
func (m *mind) hears(wants []string) error {
	err := m.until(patience, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.events) <= m.read {
			return errors.New("the agent hears nothing more")
		}
		m.read++
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(append(m.wrong, err)...); err != nil {
		return err
	}
	return m.events[m.read-1].like(wants)
}

// hearsAgain waits until the event gone through last was heard more than once.
func (m *mind) hearsAgain(wants []string) error {
	err := m.until(patience, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.events[m.read-1].times == 1 {
			return errors.New("the agent heard it once and not again")
		}
		return errors.Join(m.wrong...)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(err, m.events[m.read-1].like(wants))
}

func (e heard) like(wants []string) error {
	for _, want := range wants {
		path, pattern, _ := strings.Cut(want, "=")
		re, err := regexp.Compile(`(?s)^(?:` + pattern + `)$`)
		if err != nil {
			return err
		}
		if got := e.at(path); !re.MatchString(got) {
			return fmt.Errorf("the agent hears %s=%q in %s", path, got, e.body)
		}
	}
	return nil
}
