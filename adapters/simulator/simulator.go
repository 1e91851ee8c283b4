// Package simulator implements simulated Telegram, Twilio and Slack servers that behave as the
// originals do, including their faults. The demo and the tests use them. A simulated provider
// rejects what the original rejects, and records duplicates.
//
// It covers the parts of the providers' APIs that package adapters uses, not all of them.
package simulator

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"
)

// A Line is a message in a chat of a simulated provider.
type Line struct {
	ID      string // the provider's ID of the message
	Chat    string // ID of a person or a group
	Sender  string // empty for the bot
	Text    string
	Private bool // shown to one person only, such as Slack's ephemeral messages
	At      time.Time
}

// FromBot reports whether the bot, and so the gateway, sent the line.
func (l Line) FromBot() bool { return l.Sender == "" }

// A Transcript records the lines of all chats in order. The zero value is ready to use. A Transcript
// is safe for concurrent use.
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

// Lines returns the lines of chat, oldest first. If chat is empty, it returns those of all chats.
func (t *Transcript) Lines(chat string) []Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []Line
	for _, l := range t.lines {
		if chat == "" || l.Chat == chat {
			lines = append(lines, l)
		}
	}
	return lines
}

// Replies returns the lines of chat that the bot sent.
func (t *Transcript) Replies(chat string) []Line {
	var replies []Line
	for _, l := range t.Lines(chat) {
		if l.FromBot() {
			replies = append(replies, l)
		}
	}
	return replies
}

// WaitReply returns the reply with index n in chat, and waits until there is one. It returns the
// cause of ctx if ctx ends first.
func (t *Transcript) WaitReply(ctx context.Context, chat string, n int) (Line, error) {
	for {
		changed := t.watch()
		if replies := t.Replies(chat); len(replies) > n {
			return replies[n], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, context.Cause(ctx)
		}
	}
}

// WaitLines waits until there are more than n lines and returns the lines after the first n. It
// returns none if ctx ends first.
func (t *Transcript) WaitLines(ctx context.Context, n int) []Line {
	for {
		changed := t.watch()
		if lines := t.Lines(""); len(lines) > n {
			return lines[n:]
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// watch returns a channel that the next Add closes.
func (t *Transcript) watch() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// A Fault replaces the response of a provider.
type Fault struct {
	Status int
	Header http.Header
	Body   string
	Hang   bool          // process the request and do not respond
	Cut    bool          // process the request and close the connection
	Delay  time.Duration // process the request after this time, and respond
}

// Faults holds the faults for future calls by method name. The zero value is ready to use. A Faults
// is safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	armed  map[string][]Fault
	broken map[[2]string]Fault // by account and method
	hits   map[[2]string]int   // calls with a fault of Break, by account and method
}

// Arm adds faults for the next calls of method, one for each call.
func (fs *Faults) Arm(method string, faults ...Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.armed == nil {
		fs.armed = map[string][]Fault{}
	}
	fs.armed[method] = append(fs.armed[method], faults...)
}

// AllMethods is the method of Break for all calls of an account.
const AllMethods = "*"

// Break adds a fault for all calls of a method with the credentials of an account, until Mend: the username
// of a Telegram bot, the SID of a Twilio account, or the ID of a Slack app.
func (fs *Faults) Break(account, method string, f Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.broken == nil {
		fs.broken, fs.hits = map[[2]string]Fault{}, map[[2]string]int{}
	}
	fs.broken[[2]string{account, method}] = f
}

// Mend removes the faults that Break has added for an account.
func (fs *Faults) Mend(account string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	maps.DeleteFunc(fs.broken, func(key [2]string, _ Fault) bool { return key[0] == account })
}

// BrokenCalls returns the number of calls of a method for which an account had a fault of Break.
func (fs *Faults) BrokenCalls(account, method string) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.hits[[2]string{account, method}]
}

// take returns the fault for this call of an account. It reports whether there is one. A fault that only
// delays the call has ended when take returns.
func (fs *Faults) take(r *http.Request, account, method string) (Fault, bool) {
	f, ok := fs.pop(account, method)
	if ok && f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
		return Fault{}, false
	}
	return f, ok
}

// pop removes and returns the fault for this call of method. It reports whether there is one.
func (fs *Faults) pop(account, method string) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, m := range []string{method, AllMethods} {
		if f, ok := fs.broken[[2]string{account, m}]; ok && account != "" {
			fs.hits[[2]string{account, method}]++
			return f, true
		}
	}
	q := fs.armed[method]
	if len(q) == 0 {
		return Fault{}, false
	}
	fs.armed[method] = q[1:]
	return q[0], true
}

// respond sends the response of f, hangs until the client disconnects, or closes the connection.
func (f Fault) respond(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.Hang:
		<-r.Context().Done()
	case f.Cut:
		panic(http.ErrAbortHandler)
	default:
		maps.Copy(w.Header(), f.Header)
		w.WriteHeader(f.Status)
		_, _ = w.Write([]byte(f.Body))
	}
}

// afterProcessing reports whether the provider processes the request before the fault.
func (f Fault) afterProcessing() bool { return f.Hang || f.Cut }

// writeJSON sends doc with a status, or status 500 if doc cannot be encoded.
func writeJSON(w http.ResponseWriter, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may have disconnected
}
