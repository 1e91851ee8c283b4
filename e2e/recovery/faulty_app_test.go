package recovery

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/e2e/harness/rawhttp"
	"hydragate/gateway/delivery"
)

// maxMemory is the limit of the resident memory of the gateway under any load.
const maxMemory = 256 << 20

// TestFaultyApp_Isolated checks that a faulty application does not affect other instances and
// conversations. The application of one instance hangs, fails, responds slowly and sends huge
// responses for all its users; the application of another instance does so for a few users.
// Messages of other users must be delivered as fast as before, messages to the faulty applications
// must be delivered in the end, and the memory of the gateway must stay below maxMemory.
//
// With HYDRAGATE_TEST_LONG=1 more messages wait than the gateway delivers concurrently to one
// instance, and the applications hang for longer than the response timeout.
//
// A single p99 on a busy machine is noisy. The test compares the median over several windows, and
// measures more windows if the difference is too large.
func TestFaultyApp_Isolated(t *testing.T) {
	harness.ParallelUnlessFull(t)
	s, p := harness.Start(t, harness.Options{})
	faulty := newFaultyApp(s)
	people := s.NewLoad(harness.Scaled(2, 6))
	var faultLoads []*harness.MessageLoad
	stop := people.SendInBackground(500 * time.Millisecond)
	s.Sleep(time.Second) // exclude the cost of the first messages
	before := measureWindows(s, harness.Scaled(2, 8))
	during := map[appFault][]measurement{}
	for _, fault := range appFaults {
		faulty.setFault(fault)
		few, many := gatherFaultTargets(s, 3), gatherForFaultyApp(s, faultCallerCount(fault))
		few.StartSending(t.Context(), 1)
		many.StartSending(t.Context(), 1)
		faultLoads = append(faultLoads, few, many)
		during[fault] = measureWindows(s, int(faultDuration(fault)/measurementDuration()))
		limit := 3 * len(during[fault])
		for len(during[fault]) < limit &&
			deliveryLatency(s, people, during[fault]) > allowedLatency(s, people, before) {
			during[fault] = append(during[fault], measureWindows(s, 1)...)
		}
		harness.Eventually(t, "all users reach an application that "+string(fault), func() bool {
			return faulty.callsDuring(fault) >= faultCallerCount(fault)
		})
	}
	faulty.setFault(appHealthy)
	s.Sleep(measurementDuration())
	stop()
	if !s.WaitIdle(3 * time.Minute) {
		t.Errorf("not idle after three minutes\n%s", s.LogTail())
	}
	people.RequireComplete(1, 0)
	faultMessages := 0
	for _, r := range faultLoads {
		faultMessages += requireDelivered(r).Sent
	}
	t.Logf("%d messages to faulty applications, all delivered", faultMessages)
	usual := deliveryLatency(s, people, before)
	for _, fault := range appFaults {
		took := deliveryLatency(s, people, during[fault])
		t.Logf("p99 of other users %s before, %s while an application %s; %d requests met the fault",
			usual, took, fault, faulty.callsDuring(fault))
		if took > allowedLatency(s, people, before) {
			t.Errorf("p99 of other users = %s while an application %s, want about %s", took, fault, usual)
		}
	}
	peak := harness.ProcessMemory(t, p.Cmd.Process.Pid, "VmHWM:")
	t.Logf("peak resident memory %d MiB", peak>>20)
	if peak > maxMemory && !harness.RaceEnabled() {
		t.Errorf("peak resident memory = %d bytes, want at most %d", peak, maxMemory)
	}
	s.CheckLog()

	t.Run("control: one delivery at a time", func(t *testing.T) {
		harness.RequireFullRun(t)
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.SingleDelivery
		s.Restart()
		people := s.NewLoad(1)
		stop := people.SendInBackground(500 * time.Millisecond)
		s.Sleep(time.Second)
		faulty.setFault(appHangs)
		gatherForFaultyApp(s, 1).StartSending(t.Context(), 1)
		windows := measureWindows(s, 2)
		faulty.setFault(appHealthy)
		s.Sleep(measurementDuration())
		stop()
		if took := deliveryLatency(s, people, windows); took <= rawhttp.MaxSlowdown*usual {
			t.Errorf("p99 of other users = %s, want more than %s", took, rawhttp.MaxSlowdown*usual)
		}
	})
}

// allowedLatency returns the maximum p99 of the delivery latency, given the windows measured
// without a fault.
func allowedLatency(s *harness.Harness, r *harness.MessageLoad, before []measurement) time.Duration {
	return max(
		rawhttp.MaxSlowdown*deliveryLatency(s, r, before),
		time.Duration(harness.Scaled(2000, 100))*time.Millisecond,
	)
}

// faultCallerCount returns how many users write to the faulty application. For an application that
// hangs there are more than the gateway delivers concurrently.
func faultCallerCount(fault appFault) int {
	if fault == appHangs {
		return harness.Scaled(5, app.DeliverySize/2+50)
	}
	return harness.Scaled(5, 60)
}

// faultDuration returns how long a fault lasts at least.
func faultDuration(fault appFault) time.Duration {
	switch {
	case !harness.FullRun():
		return measurementDuration()
	case fault == appHangs:
		return 2*delivery.ResponseTimeout + 5*time.Second
	case fault == appDrips:
		return delivery.ResponseTimeout + 10*time.Second
	}
	return 5 * measurementDuration()
}

// measurement is a window in which delivery latency is measured.
type measurement struct{ from, to time.Time }

// measurementDuration returns the length of a window.
func measurementDuration() time.Duration { return time.Duration(harness.Scaled(1, 5)) * time.Second }

// measureWindows waits for n windows and returns them.
func measureWindows(s *harness.Harness, n int) (windows []measurement) {
	for range n {
		w := measurement{from: time.Now()}
		s.Sleep(measurementDuration())
		w.to = time.Now()
		windows = append(windows, w)
	}
	return windows
}

// deliveryLatency returns the median over windows of the p99 of the delivery latency.
func deliveryLatency(s *harness.Harness, r *harness.MessageLoad, windows []measurement) time.Duration {
	var latencies []time.Duration
	for _, w := range windows {
		latencies = append(latencies, s.Latencies(r, w.from, w.to)[1])
	}
	return harness.Median(latencies)
}

// requireDelivered fails the test unless every message was accepted and delivered once and in
// order. Replies may be missing, because a faulty application may not have sent one.
func requireDelivered(r *harness.MessageLoad) harness.LoadReport {
	r.T.Helper()
	v := r.Report()
	if v.Violations() > v.Unanswered || v.Sent != v.Accepted {
		r.T.Errorf("load report = %s, want no lost, duplicate or reordered messages\n%s", v, r.LogTail())
	}
	return v
}

// appFault is the way an application responds for a while.
type appFault string

const (
	appHealthy  appFault = "is healthy"
	appHangs    appFault = "hangs"
	appFails    appFault = "responds with 500"
	appDrips    appFault = "sends a byte per second"
	appFloods   appFault = "sends 100 MiB"
	appGzipBomb appFault = "sends a gzip bomb"
)

// appFaults lists the faults in the order of the test.
var appFaults = []appFault{appHangs, appFails, appDrips, appFloods, appGzipBomb}

// faultyApp is an application with faults. It applies the current fault to all requests for url,
// and on selectiveURL to messages whose text begins with faultTargetPrefix.
type faultyApp struct {
	*harness.FakeApp
	url, selectiveURL string

	mu      sync.Mutex
	fault   appFault
	changed chan struct{}    // closed when the fault changes
	calls   map[appFault]int // requests by fault
}

// faultTargetPrefix begins the text of messages to which selectiveURL applies the fault.
const faultTargetPrefix = "fault target"

// newFaultyApp creates an instance with its own bot, whose application is faulty for all users,
// and replaces the application of the first instance with one that is faulty for some users.
func newFaultyApp(s *harness.Harness) *faultyApp {
	s.T.Helper()
	m := &faultyApp{FakeApp: s.App, fault: appHealthy, changed: make(chan struct{}), calls: map[appFault]int{}}
	server := httptest.NewServer(m)
	s.T.Cleanup(func() {
		server.CloseClientConnections()
		m.setFault(appHealthy)
		server.Close()
	})
	m.url, m.selectiveURL = server.URL+"/all", server.URL+"/few"
	s.Telegram.AddBot(faultyAppToken, faultyAppBot)
	var i struct{ ID string }
	s.MustCall("POST", "/v1/instances", map[string]string{"name": "faulty", "agent_url": m.url}, http.StatusCreated, &i)
	s.ConnectChannel(i.ID, "telegram", map[string]string{"bot_token": faultyAppToken, "mode": "webhook"})
	s.MustCall("PATCH",
		"/v1/instances/"+s.InstanceID, map[string]string{"agent_url": m.selectiveURL}, http.StatusOK, &i)
	return m
}

const (
	faultyAppBot   = "acme_faulty_bot"
	faultyAppToken = "7000009:AAE0123456789abcdefghijklmnopqrstuv"
)

// gatherForFaultyApp returns a load of n users who write to the bot of the faulty application.
func gatherForFaultyApp(s *harness.Harness, n int) *harness.MessageLoad {
	r := s.NewLoad(0)
	for i := range n {
		r.Users = append(r.Users, s.TelegramUser(faultyAppBot, int64(500_000+1000*s.LoadCount+i)))
	}
	return r
}

// gatherFaultTargets returns a load of n users for whom the application of the first instance is
// faulty.
func gatherFaultTargets(s *harness.Harness, n int) *harness.MessageLoad {
	r := s.NewLoad(0)
	r.Name = faultTargetPrefix + " in " + r.Name
	for i := range n {
		r.Users = append(r.Users, s.TelegramUser(harness.TelegramBot, int64(600_000+1000*s.LoadCount+i)))
	}
	return r
}

// setFault changes the current fault and ends the requests that are blocked by the previous one.
func (m *faultyApp) setFault(fault appFault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
	close(m.changed)
	m.changed = make(chan struct{})
}

// enterFault counts a request and returns the current fault and a channel that is closed when the
// fault ends.
func (m *faultyApp) enterFault() (appFault, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[m.fault]++
	return m.fault, m.changed
}

// callsDuring returns the number of requests during a fault.
func (m *faultyApp) callsDuring(fault appFault) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[fault]
}

// ServeHTTP responds according to the current fault.
func (m *faultyApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if strings.HasSuffix(m.selectiveURL, r.URL.Path) && !bytes.Contains(body, []byte(`"text":"`+faultTargetPrefix)) {
		m.FakeApp.ServeHTTP(w, r)
		return
	}
	switch fault, over := m.enterFault(); fault {
	case appHealthy:
		m.FakeApp.ServeHTTP(w, r)
	case appHangs:
		select {
		case <-over:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	case appFails:
		w.WriteHeader(http.StatusInternalServerError)
	case appDrips:
		dripResponse(w, r, over)
	case appFloods, appGzipBomb: // accept the event, then send an unusable response
		m.FakeApp.ServeHTTP(httptest.NewRecorder(), r)
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

// floodResponse writes 100 MiB, either directly or as a small gzip body.
func floodResponse(w http.ResponseWriter, fault appFault) {
	if fault == appGzipBomb {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, gzipBomb())
		return
	}
	for range 100 << 20 / len(floodChunk) {
		if _, err := w.Write(floodChunk); err != nil {
			return
		}
	}
}

// floodChunk is the repeated part of a flood.
var floodChunk = bytes.Repeat([]byte("a"), 64<<10)

// gzipBomb returns 100 MiB of JSON, compressed to about 100 KB.
var gzipBomb = sync.OnceValue(func() string {
	return rawhttp.Gzipped(`{"replies":[{"text":"` + strings.Repeat("a", 100<<20))
})
