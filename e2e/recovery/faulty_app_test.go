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

// maxMemory is what the gateway may have resident, whatever goes on.
const maxMemory = 256 << 20

// TestFaultyApp_Isolated lets the runtime of one instance hang, fail, drip and
// pour, for everybody, and that of another for a few. Meanwhile what others say is handed
// over as fast as before, and what these say arrives in the end, while the gateway stays
// small. With HYDRAGATE_TEST_LONG=1 more of them wait than the gateway calls of one
// instance at once, and runtimes hang for longer than it waits.
//
// One p99 of a busy machine says little, so the middle of several is compared, and where
// they differ too much there are more of them.
func TestFaultyApp_Isolated(t *testing.T) {
	harness.ParallelUnlessFull(t)
	s, p := harness.Start(t, harness.Options{})
	m := newFaultyApp(s)
	people := s.NewLoad(harness.Scaled(2, 6))
	var sufferers []*harness.MessageLoad
	hush := people.SendInBackground(500 * time.Millisecond)
	s.Sleep(time.Second) // what only the first ones cost
	before := measureWindows(s, harness.Scaled(2, 8))
	during := map[appFault][]measurement{}
	for _, is := range appFaults {
		m.setFault(is)
		few, many := gatherFaultTargets(s, 3), gatherForFaultyApp(s, faultCallerCount(is))
		few.StartSending(t.Context(), 1)
		many.StartSending(t.Context(), 1)
		sufferers = append(sufferers, few, many)
		during[is] = measureWindows(s, int(faultDuration(is)/measurementDuration()))
		for most := 3 * len(during[is]); deliveryLatency(s, people, during[is]) > allowedLatency(s, people, before) && len(during[is]) < most; {
			during[is] = append(during[is], measureWindows(s, 1)...)
		}
		harness.Eventually(t, "everybody meets a runtime that "+string(is), func() bool { return m.callsDuring(is) >= faultCallerCount(is) })
	}
	m.setFault(appHealthy)
	s.Sleep(measurementDuration())
	hush()
	if !s.WaitIdle(3 * time.Minute) {
		t.Errorf("it is not quiet three minutes after\n%s", s.LogTail())
	}
	people.RequireComplete(1, 0)
	suffered := 0
	for _, r := range sufferers {
		suffered += requireDelivered(r).Sent
	}
	t.Logf("%d messages to runtimes in moods, all handed over", suffered)
	usual := deliveryLatency(s, people, before)
	for _, is := range appFaults {
		took := deliveryLatency(s, people, during[is])
		t.Logf("others, before %s, while a runtime %s %s; %d calls met that", usual, is, took, m.callsDuring(is))
		if took > allowedLatency(s, people, before) {
			t.Errorf("what others say is handed over within %s, and within %s while a runtime %s", usual, took, is)
		}
	}
	peak := harness.ProcessMemory(t, p.Cmd.Process.Pid, "VmHWM:")
	t.Logf("at most %d MiB resident", peak>>20)
	if peak > maxMemory && !harness.RaceEnabled() {
		t.Errorf("%d bytes resident; want %d at most", peak, maxMemory)
	}
	s.CheckLog()

	t.Run("control: runtimes are called one after the other", func(t *testing.T) {
		harness.RequireFullRun(t)
		p.Kill()
		s.ExpireLeases(t.Context())
		s.Fault = harness.SingleDelivery
		s.Restart()
		people := s.NewLoad(1)
		hush := people.SendInBackground(500 * time.Millisecond)
		s.Sleep(time.Second)
		m.setFault(appHangs)
		gatherForFaultyApp(s, 1).StartSending(t.Context(), 1)
		held := measureWindows(s, 2)
		m.setFault(appHealthy)
		s.Sleep(measurementDuration())
		hush()
		if took := deliveryLatency(s, people, held); took <= rawhttp.MaxSlowdown*usual {
			t.Errorf("the check does not see that others wait: %s", took)
		}
	})
}

// allowedLatency is what the slowest of a hundred messages may take, when before it took that
// of some windows.
func allowedLatency(s *harness.Harness, r *harness.MessageLoad, before []measurement) time.Duration {
	return max(rawhttp.MaxSlowdown*deliveryLatency(s, r, before), time.Duration(harness.Scaled(2000, 100))*time.Millisecond)
}

// faultCallerCount is how many call on a runtime that has a mood for all; when it hangs, more than
// the gateway calls at once.
func faultCallerCount(is appFault) int {
	if is == appHangs {
		return harness.Scaled(5, app.DeliverySize/2+50)
	}
	return harness.Scaled(5, 60)
}

// faultDuration is how long a mood lasts, at the least.
func faultDuration(is appFault) time.Duration {
	switch {
	case !harness.FullRun():
		return measurementDuration()
	case is == appHangs:
		return 2*delivery.ResponseTimeout + 5*time.Second
	case is == appDrips:
		return delivery.ResponseTimeout + 10*time.Second
	}
	return 5 * measurementDuration()
}

// A measurement is a time in which is measured how fast messages are handed over.
type measurement struct{ from, to time.Time }

func measurementDuration() time.Duration { return time.Duration(harness.Scaled(1, 5)) * time.Second }

// measureWindows lets so many windows pass.
func measureWindows(s *harness.Harness, n int) (all []measurement) {
	for range n {
		w := measurement{from: time.Now()}
		s.Sleep(measurementDuration())
		w.to = time.Now()
		all = append(all, w)
	}
	return all
}

// deliveryLatency gives how long it took until what was said was handed over, 99 of 100
// times: the middle of several windows.
func deliveryLatency(s *harness.Harness, r *harness.MessageLoad, ws []measurement) time.Duration {
	var all []time.Duration
	for _, w := range ws {
		all = append(all, s.Latencies(r, w.from, w.to)[1])
	}
	return harness.Median(all)
}

// requireDelivered fails the test unless what was said was taken, and handed over once and in
// order; a runtime in a mood may have answered nothing that could be sent.
func requireDelivered(r *harness.MessageLoad) harness.LoadReport {
	r.T.Helper()
	v := r.Report()
	if v.Violations() > v.Unanswered || v.Sent != v.Accepted {
		r.T.Errorf("not everything arrived: %s\n%s", v, r.LogTail())
	}
	return v
}

// A appFault is how a runtime answers for a while.
type appFault string

const (
	appHealthy  appFault = "well"
	appHangs    appFault = "hangs"
	appFails    appFault = "answers 500"
	appDrips    appFault = "drips a byte a second"
	appFloods   appFault = "answers 100 MiB"
	appGzipBomb appFault = "answers a gzip bomb"
)

// appFaults are all there are, in the order of the day.
var appFaults = []appFault{appHangs, appFails, appDrips, appFloods, appGzipBomb}

// A faultyApp runtime is an ear that has moods: for every call to one of its addresses, and
// at the other for what begins with the name of somebody it does not like.
type faultyApp struct {
	*harness.FakeApp
	url, selectiveURL string // likes is the address of those with friends

	mu      sync.Mutex
	fault   appFault
	changed chan struct{}    // closed when the mood changes
	calls   map[appFault]int // what came in a mood
}

const faultTargetPrefix = "disliked"

// newFaultyApp makes the runtime of one more instance, whose bot is sulkyBot, and takes the
// place of the runtime of the storm's first one, where it has moods for few.
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
	s.MustCall("POST", "/v1/instances", map[string]string{"name": "sulky", "agent_url": m.url}, http.StatusCreated, &i)
	s.ConnectChannel(i.ID, "telegram", map[string]string{"bot_token": faultyAppToken, "mode": "webhook"})
	s.MustCall("PATCH", "/v1/instances/"+s.InstanceID, map[string]string{"agent_url": m.selectiveURL}, http.StatusOK, &i)
	return m
}

const (
	faultyAppBot   = "acme_sulky_bot"
	faultyAppToken = "7000009:AAE0123456789abcdefghijklmnopqrstuv"
)

// gatherForFaultyApp is a crowd that talks to the bot of the sulky runtime's own instance.
func gatherForFaultyApp(s *harness.Harness, n int) *harness.MessageLoad {
	r := s.NewLoad(0)
	for i := range n {
		r.Users = append(r.Users, s.TelegramUser(faultyAppBot, int64(500_000+1000*s.LoadCount+i)))
	}
	return r
}

// gatherFaultTargets is a crowd that the runtime of the first instance has moods for.
func gatherFaultTargets(s *harness.Harness, n int) *harness.MessageLoad {
	r := s.NewLoad(0)
	r.Name = faultTargetPrefix + " in " + r.Name
	for i := range n {
		r.Users = append(r.Users, s.TelegramUser(harness.TelegramBot, int64(600_000+1000*s.LoadCount+i)))
	}
	return r
}

func (m *faultyApp) setFault(to appFault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = to
	close(m.changed)
	m.changed = make(chan struct{})
}

// enterFault gives the mood a call meets, and what tells when it is over.
func (m *faultyApp) enterFault() (appFault, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[m.fault]++
	return m.fault, m.changed
}

// callsDuring gives how many calls met a mood.
func (m *faultyApp) callsDuring(is appFault) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[is]
}

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
	switch is, over := m.enterFault(); is {
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
	case appFloods, appGzipBomb: // it took the event, and then says what nobody can use
		m.FakeApp.ServeHTTP(httptest.NewRecorder(), r)
		floodResponse(w, is)
	}
}

// dripResponse begins an answer that has no end while the mood lasts, and breaks it off.
func dripResponse(w http.ResponseWriter, r *http.Request, over <-chan struct{}) {
	w.WriteHeader(http.StatusOK)
	each := time.NewTicker(time.Second)
	defer each.Stop()
	for {
		if _, err := io.WriteString(w, " "); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-each.C:
		case <-over:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

// floodResponse answers more than anybody reads: as it is, or when it is inflated.
func floodResponse(w http.ResponseWriter, how appFault) {
	if how == appGzipBomb {
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

var floodChunk = bytes.Repeat([]byte("a"), 64<<10)

// gzipBomb is 100 MiB of JSON in a hundred kilobytes.
var gzipBomb = sync.OnceValue(func() string { return rawhttp.Gzipped(`{"replies":[{"text":"` + strings.Repeat("a", 100<<20)) })
