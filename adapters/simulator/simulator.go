// Package simulator plays the providers: pretend Telegram, Twilio and Slack servers
// that behave as the originals do, faults included. The demo, the dashboard's
// simulator and the tests share them. A pretend provider does not forgive what the
// original would refuse, and does not hide what arrives twice.
package simulator

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// A Line is something said in a chat of a pretend provider.
type Line struct {
	ID      string // the provider's id of the message
	Chat    string // a person's id, or a room's
	Sender  string // empty: the bot
	Text    string
	Private bool // shown to one person only, such as Slack's ephemeral messages
	At      time.Time
}

// FromBot reports whether the gateway said it.
func (l Line) FromBot() bool { return l.Sender == "" }

// A Transcript keeps what was said, in order. The zero value is ready; it is safe
// for concurrent use.
type Transcript struct {
	mu      sync.Mutex
	lines   []Line
	changed chan struct{}
}

// Add appends a line.
func (t *Transcript) Add(l Line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.At = time.Now().UTC()
	t.lines = append(t.lines, l)
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Lines gives what was said in chat, oldest first; "" means all chats.
func (t *Transcript) Lines(chat string) []Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ls []Line
	for _, l := range t.lines {
		if chat == "" || l.Chat == chat {
			ls = append(ls, l)
		}
	}
	return ls
}

// Replies gives the lines of chat that the bot said.
func (t *Transcript) Replies(chat string) []Line {
	var ls []Line
	for _, l := range t.Lines(chat) {
		if l.FromBot() {
			ls = append(ls, l)
		}
	}
	return ls
}

// WaitReply waits for the bot's answer number n (from 0) in chat.
func (t *Transcript) WaitReply(ctx context.Context, chat string, n int) (Line, error) {
	for {
		changed := t.watch()
		if ls := t.Replies(chat); len(ls) > n {
			return ls[n], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, context.Cause(ctx)
		}
	}
}

// watch gives a channel that is closed at the next Add.
func (t *Transcript) watch() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// A Fault is what a provider does in place of its answer.
type Fault struct {
	Status int
	Header http.Header
	Body   string
	Hang   bool // take the request, do the work, and never answer
	Cut    bool // take the request, do the work, and cut the connection
}

// Faults are faults waiting for the calls they hit, by method name. The zero value
// is ready; it is safe for concurrent use.
type Faults struct {
	mu    sync.Mutex
	armed map[string][]Fault
}

// Arm makes the next call of method meet f; more faults wait for the calls after.
func (fs *Faults) Arm(method string, f ...Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.armed == nil {
		fs.armed = map[string][]Fault{}
	}
	fs.armed[method] = append(fs.armed[method], f...)
}

// pop gives the fault that hits this call of method, if one waits.
func (fs *Faults) pop(method string) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	q := fs.armed[method]
	if len(q) == 0 {
		return Fault{}, false
	}
	fs.armed[method] = q[1:]
	return q[0], true
}

// respond answers with f, after the work when f is lossy.
func (f Fault) respond(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.Hang:
		<-r.Context().Done()
	case f.Cut:
		panic(http.ErrAbortHandler)
	default:
		for k, v := range f.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(f.Status)
		_, _ = w.Write([]byte(f.Body))
	}
}

// afterProcessing reports whether the provider does the work before the fault shows.
func (f Fault) afterProcessing() bool { return f.Hang || f.Cut }
