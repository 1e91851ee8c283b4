//go:build unix

package harness

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// An AppFault is the way an application responds for a while.
type AppFault string

// The faults of a FaultyApp.
const (
	AppHealthy  AppFault = "is healthy"
	AppHangs    AppFault = "hangs"
	AppFails    AppFault = "responds with 500"
	AppDrips    AppFault = "sends a byte per second"
	AppFloods   AppFault = "sends 100 MiB"
	AppGzipBomb AppFault = "sends a gzip bomb"
)

// AppFaults lists the faults other than AppHealthy.
var AppFaults = []AppFault{AppHangs, AppFails, AppDrips, AppFloods, AppGzipBomb}

// A FaultyApp is an application with faults. It applies the current fault to all requests for url, and
// on selectiveURL to messages whose text begins with selectedPrefix.
type FaultyApp struct {
	harness           *Harness
	url, selectiveURL string

	mu      sync.Mutex
	fault   AppFault
	changed chan struct{}    // closed when the fault changes
	calls   map[AppFault]int // requests by fault
}

const (
	faultyAppBot   = "acme_faulty_bot"
	faultyAppToken = "7000009:AAE0123456789abcdefghijklmnopqrstuv"
	selectedPrefix = "fault target" // of messages to which selectiveURL applies the fault
)

// AddFaultyApp creates an instance with a bot of its own, whose application is faulty for all users. It
// replaces the application of the first instance with one that is faulty for some users.
func (h *Harness) AddFaultyApp() *FaultyApp {
	h.T.Helper()
	a := &FaultyApp{harness: h, fault: AppHealthy, changed: make(chan struct{}), calls: map[AppFault]int{}}
	url := ServeHTTP(h.T.Cleanup, a)
	h.T.Cleanup(func() { a.SetFault(AppHealthy) }) // ends blocked requests before the server is closed
	a.url, a.selectiveURL = url+"/all", url+"/few"
	h.Telegram.AddBot(faultyAppToken, faultyAppBot)
	var i struct{ ID string }
	h.MustCall("POST", "/v1/instances", map[string]string{"name": "faulty", "agent_url": a.url}, http.StatusCreated, &i)
	h.ConnectChannel(i.ID, "telegram", map[string]string{"bot_token": faultyAppToken, "mode": "webhook"})
	h.MustCall("PATCH", "/v1/instances/"+h.InstanceID, map[string]string{"agent_url": a.selectiveURL}, http.StatusOK, &i)
	return a
}

// NewLoad returns a load of n users of the instance whose application is faulty for all users.
func (a *FaultyApp) NewLoad(n int) *MessageLoad {
	r := a.harness.NewLoad(0)
	for i := range n {
		r.Users = append(r.Users, a.harness.TelegramUser(faultyAppBot, int64(500_000+1000*r.LoadCount+i)))
	}
	return r
}

// NewSelectedLoad returns a load of n users of the first instance for whom its application is faulty.
func (a *FaultyApp) NewSelectedLoad(n int) *MessageLoad {
	r := a.harness.NewLoad(0)
	r.Name = selectedPrefix + " in " + r.Name
	for i := range n {
		r.Users = append(r.Users, a.harness.TelegramUser(TelegramBot, int64(600_000+1000*r.LoadCount+i)))
	}
	return r
}

// SetFault changes the current fault and ends the requests that are blocked by the previous one.
func (a *FaultyApp) SetFault(fault AppFault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = fault
	close(a.changed)
	a.changed = make(chan struct{})
}

// enterFault counts a request. It returns the current fault and a channel that is closed when the fault
// ends.
func (a *FaultyApp) enterFault() (AppFault, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[a.fault]++
	return a.fault, a.changed
}

// CallsDuring returns the number of requests to which a fault was applied.
func (a *FaultyApp) CallsDuring(fault AppFault) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[fault]
}

// ServeHTTP responds according to the current fault.
func (a *FaultyApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	selected := bytes.Contains(body, []byte(`"text":"`+selectedPrefix))
	if strings.HasSuffix(a.selectiveURL, r.URL.Path) && !selected {
		a.harness.App.ServeHTTP(w, r)
		return
	}
	switch fault, over := a.enterFault(); fault {
	case AppHealthy:
		a.harness.App.ServeHTTP(w, r)
	case AppHangs:
		select {
		case <-over:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	case AppFails:
		w.WriteHeader(http.StatusInternalServerError)
	case AppDrips:
		dripResponse(w, r, over)
	case AppFloods, AppGzipBomb: // accept the event, then send an unusable response
		a.harness.App.ServeHTTP(httptest.NewRecorder(), r)
		floodResponse(w, fault)
	}
}

// dripResponse writes one byte per second until the fault ends, and then aborts the connection.
func dripResponse(w http.ResponseWriter, r *http.Request, over <-chan struct{}) {
	w.WriteHeader(http.StatusOK)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		if _, err := io.WriteString(w, " "); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-ticker.C:
		case <-over:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

// floodSize is the size of the response of AppFloods, and of the decompressed one of AppGzipBomb.
const floodSize = 100 << 20

// floodResponse writes floodSize bytes, either directly or as a small gzip body.
func floodResponse(w http.ResponseWriter, fault AppFault) {
	if fault == AppGzipBomb {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, gzipBomb())
		return
	}
	chunk := bytes.Repeat([]byte("a"), 64<<10)
	for range floodSize / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// gzipBomb returns floodSize bytes of JSON, compressed to about 100 KB.
var gzipBomb = sync.OnceValue(func() string {
	return Gzipped(`{"replies":[{"text":"` + strings.Repeat("a", floodSize))
})

// Gzipped returns s compressed with gzip.
func Gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}
