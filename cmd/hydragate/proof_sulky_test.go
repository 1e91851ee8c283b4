//go:build linux

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/gateway/delivery"
)

// mostMemory is what the gateway may have resident, whatever goes on.
const mostMemory = 256 << 20

// TestSlowRuntimeHoldsUpNobodyElse lets the runtime of one instance hang, fail, drip and
// pour, for everybody, and that of another for a few. Meanwhile what others say is handed
// over as fast as before, and what these say arrives in the end, while the gateway stays
// small. With HYDRAGATE_TEST_LONG=1 more of them wait than the gateway calls of one
// instance at once, and runtimes hang for longer than it waits.
//
// One p99 of a busy machine says little, so the middle of several is compared, and where
// they differ too much there are more of them.
func TestSlowRuntimeHoldsUpNobodyElse(t *testing.T) {
	alongside(t)
	s, p := newStorm(t, climate{})
	m := s.newSulky()
	people := s.gather(share(2, 6))
	var sufferers []*round
	hush := people.murmur(500 * time.Millisecond)
	s.stay(time.Second) // what only the first ones cost
	before := s.windows(share(2, 8))
	during := map[mood][]window{}
	for _, is := range badMoods {
		m.turn(is)
		few, many := s.disliked(3), s.onSulkyBot(callers(is))
		few.talk(t.Context(), 1)
		many.talk(t.Context(), 1)
		sufferers = append(sufferers, few, many)
		during[is] = s.windows(int(spell(is) / windowTime()))
		for most := 3 * len(during[is]); s.handedOver(people, during[is]) > s.bearable(people, before) && len(during[is]) < most; {
			during[is] = append(during[is], s.windows(1)...)
		}
		eventually(t, "everybody meets a runtime that "+string(is), func() bool { return m.met(is) >= callers(is) })
	}
	m.turn(well)
	s.stay(windowTime())
	hush()
	if !s.quiet(3 * time.Minute) {
		t.Errorf("it is not quiet three minutes after\n%s", s.tail())
	}
	people.holds(1, 0)
	suffered := 0
	for _, r := range sufferers {
		suffered += r.arrives().said
	}
	t.Logf("%d messages to runtimes in moods, all handed over", suffered)
	usual := s.handedOver(people, before)
	for _, is := range badMoods {
		took := s.handedOver(people, during[is])
		t.Logf("others, before %s, while a runtime %s %s; %d calls met that", usual, is, took, m.met(is))
		if took > s.bearable(people, before) {
			t.Errorf("what others say is handed over within %s, and within %s while a runtime %s", usual, took, is)
		}
	}
	peak := memory(t, p.cmd.Process.Pid, "VmHWM:")
	t.Logf("at most %d MiB resident", peak>>20)
	if peak > mostMemory && !raced() {
		t.Errorf("%d bytes resident; want %d at most", peak, mostMemory)
	}
	s.healthy()

	t.Run("control: runtimes are called one after the other", func(t *testing.T) {
		wholeOnly(t)
		p.kill()
		s.leasesEnd(t.Context())
		s.role = "narrow gateway"
		s.again()
		people := s.gather(1)
		hush := people.murmur(500 * time.Millisecond)
		s.stay(time.Second)
		m.turn(hanging)
		s.onSulkyBot(1).talk(t.Context(), 1)
		held := s.windows(2)
		m.turn(well)
		s.stay(windowTime())
		hush()
		if took := s.handedOver(people, held); took <= slowdown*usual {
			t.Errorf("the check does not see that others wait: %s", took)
		}
	})
}

// bearable is what the slowest of a hundred messages may take, when before it took that
// of some windows.
func (s *storm) bearable(r *round, before []window) time.Duration {
	return max(slowdown*s.handedOver(r, before), time.Duration(share(2000, 100))*time.Millisecond)
}

// callers is how many call on a runtime that has a mood for all; when it hangs, more than
// the gateway calls at once.
func callers(is mood) int {
	if is == hanging {
		return share(5, deliverySize/2+50)
	}
	return share(5, 60)
}

// spell is how long a mood lasts, at the least.
func spell(is mood) time.Duration {
	switch {
	case !long():
		return windowTime()
	case is == hanging:
		return 2*delivery.AnswerTimeout + 5*time.Second
	case is == dripping:
		return delivery.AnswerTimeout + 10*time.Second
	}
	return 5 * windowTime()
}

// A window is a time in which is measured how fast messages are handed over.
type window struct{ from, to time.Time }

func windowTime() time.Duration { return time.Duration(share(1, 5)) * time.Second }

// windows lets so many windows pass.
func (s *storm) windows(n int) (all []window) {
	for range n {
		w := window{from: time.Now()}
		s.stay(windowTime())
		w.to = time.Now()
		all = append(all, w)
	}
	return all
}

// handedOver gives how long it took until what was said was handed over, 99 of 100
// times: the middle of several windows.
func (s *storm) handedOver(r *round, ws []window) time.Duration {
	var all []time.Duration
	for _, w := range ws {
		all = append(all, s.percentiles(r, w.from, w.to)[1])
	}
	return median(all)
}

// arrives fails the test unless what was said was taken, and handed over once and in
// order; a runtime in a mood may have answered nothing that could be sent.
func (r *round) arrives() verdict {
	r.t.Helper()
	v := r.judge()
	if v.broken() > v.unanswered || v.said != v.taken {
		r.t.Errorf("not everything arrived: %s\n%s", v, r.tail())
	}
	return v
}

// A mood is how a runtime answers for a while.
type mood string

const (
	well     mood = "well"
	hanging  mood = "hangs"
	failing  mood = "answers 500"
	dripping mood = "drips a byte a second"
	flooding mood = "answers 100 MiB"
	bombing  mood = "answers a gzip bomb"
)

// badMoods are all there are, in the order of the day.
var badMoods = []mood{hanging, failing, dripping, flooding, bombing}

// A sulky runtime is an ear that has moods: for every call to one of its addresses, and
// at the other for what begins with the name of somebody it does not like.
type sulky struct {
	*ear
	url, likes string // likes is the address of those with friends

	mu    sync.Mutex
	is    mood
	turns chan struct{} // closed when the mood changes
	calls map[mood]int  // what came in a mood
}

const disliked = "disliked"

// newSulky makes the runtime of one more instance, whose bot is sulkyBot, and takes the
// place of the runtime of the storm's first one, where it has moods for few.
func (s *storm) newSulky() *sulky {
	s.t.Helper()
	m := &sulky{ear: s.ear, is: well, turns: make(chan struct{}), calls: map[mood]int{}}
	server := httptest.NewServer(m)
	s.t.Cleanup(func() {
		server.CloseClientConnections()
		m.turn(well)
		server.Close()
	})
	m.url, m.likes = server.URL+"/all", server.URL+"/few"
	s.telegram.AddBot(sulkyToken, sulkyBot)
	var i struct{ ID string }
	s.does("POST", "/v1/instances", map[string]string{"name": "sulky", "agent_url": m.url}, http.StatusCreated, &i)
	s.connect(i.ID, "telegram", map[string]string{"bot_token": sulkyToken, "mode": "webhook"})
	s.does("PATCH", "/v1/instances/"+s.instance, map[string]string{"agent_url": m.likes}, http.StatusOK, &i)
	return m
}

const (
	sulkyBot   = "acme_sulky_bot"
	sulkyToken = "7000009:AAE0123456789abcdefghijklmnopqrstuv"
)

// onSulkyBot is a crowd that talks to the bot of the sulky runtime's own instance.
func (s *storm) onSulkyBot(n int) *round {
	r := s.gather(0)
	for i := range n {
		r.folk = append(r.folk, s.onTelegram(sulkyBot, int64(500_000+1000*s.rounds+i)))
	}
	return r
}

// disliked is a crowd that the runtime of the first instance has moods for.
func (s *storm) disliked(n int) *round {
	r := s.gather(0)
	r.name = disliked + " in " + r.name
	for i := range n {
		r.folk = append(r.folk, s.onTelegram(telegramBot, int64(600_000+1000*s.rounds+i)))
	}
	return r
}

func (m *sulky) turn(to mood) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.is = to
	close(m.turns)
	m.turns = make(chan struct{})
}

// counted gives the mood a call meets, and what tells when it is over.
func (m *sulky) counted() (mood, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[m.is]++
	return m.is, m.turns
}

// met gives how many calls met a mood.
func (m *sulky) met(is mood) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[is]
}

func (m *sulky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if strings.HasSuffix(m.likes, r.URL.Path) && !bytes.Contains(body, []byte(`"text":"`+disliked)) {
		m.ear.ServeHTTP(w, r)
		return
	}
	switch is, over := m.counted(); is {
	case well:
		m.ear.ServeHTTP(w, r)
	case hanging:
		select {
		case <-over:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	case failing:
		w.WriteHeader(http.StatusInternalServerError)
	case dripping:
		drips(w, r, over)
	case flooding, bombing: // it took the event, and then says what nobody can use
		m.ear.ServeHTTP(httptest.NewRecorder(), r)
		pours(w, is)
	}
}

// drips begins an answer that has no end while the mood lasts, and breaks it off.
func drips(w http.ResponseWriter, r *http.Request, over <-chan struct{}) {
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

// pours answers more than anybody reads: as it is, or when it is inflated.
func pours(w http.ResponseWriter, how mood) {
	if how == bombing {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, bomb())
		return
	}
	for range 100 << 20 / len(drop) {
		if _, err := w.Write(drop); err != nil {
			return
		}
	}
}

var drop = bytes.Repeat([]byte("a"), 64<<10)

// bomb is 100 MiB of JSON in a hundred kilobytes.
var bomb = sync.OnceValue(func() string { return zipped(`{"replies":[{"text":"` + strings.Repeat("a", 100<<20)) })
