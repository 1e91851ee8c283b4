package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/adapters/simulator"
)

// Texters are many people who text at the same time, each one message after the other.
type texters struct {
	mu   sync.Mutex
	next [textersCrowd]int
	sent []string // what they texted that is the gateway's to keep
	vain []string // what Twilio gave up
	slow []string // answers that came too late
}

const (
	textersCrowd = 8
	textersFirst = 14155550200 // number of the first
)

const textersUsage = `usage: texters write N[/LONG] [in vain] | were heard | were lost | are [not] in the log of Twilio |
	fill the spool | leave nothing readable`

// texters write N [in vain] makes them write N texts in all, or LONG when the run is a
// long one. Each is to be taken at once and in time; in vain, Twilio is to give each up.
func (w *world) textersDo(ts *testscript.TestScript, args []string) error {
	if w.texters == nil {
		w.texters = &texters{}
	}
	switch does := strings.Join(args, " "); {
	case len(args) >= 2 && args[0] == "write":
		n, err := longer(args[1])
		if err != nil {
			return err
		}
		vain := len(args) == 4 && args[2] == "in" && args[3] == "vain"
		if len(args) != 2 && !vain {
			return errors.New(textersUsage)
		}
		return w.textersWrite(n, vain)
	case does == "were heard":
		return w.mind.until(patience+time.Duration(len(w.texters.sent))*50*time.Millisecond, w.textersHeard)
	case does == "were lost":
		return w.textersLost()
	case does == "fill the spool":
		return w.textersFill()
	case does == "are not in the log of Twilio": // for the rest of the story
		w.twilio.Arm("Messages.list", slices.Repeat([]simulator.Fault{{Status: 500, Body: `{"code":20500}`}}, 10_000)...)
		return nil
	case does == "leave nothing readable":
		return w.textersHidden()
	case does == "are in the log of Twilio": // and so the gateway's to fetch
		w.texters.sent = append(w.texters.sent, w.texters.vain...)
		w.texters.vain = nil
		return nil
	}
	return errors.New(textersUsage)
}

// longer reads "200/4000": the first in a short run, the second in a long one.
func longer(arg string) (int, error) {
	short, full, both := strings.Cut(arg, "/")
	if both && long() {
		short = full
	}
	return strconv.Atoi(short)
}

func (w *world) textersWrite(n int, vain bool) error {
	var all sync.WaitGroup
	before, lost := len(w.texters.sent)+len(w.texters.vain), len(w.texters.vain)
	for who := range textersCrowd {
		all.Go(func() {
			for range (n + textersCrowd - 1 - who) / textersCrowd {
				w.textOnce(who)
			}
		})
	}
	all.Wait()
	t := w.texters
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.sent)+len(t.vain) != before+n:
		return fmt.Errorf("they texted %d, not %d", len(t.sent)+len(t.vain)-before, n)
	case len(t.slow) > 0:
		return fmt.Errorf("%d answers came too late, such as %s", len(t.slow), t.slow[0])
	case vain && len(t.vain)-lost < n:
		return fmt.Errorf("%d of %d were taken all the same", n-len(t.vain)+lost, n)
	case !vain && len(t.vain) > lost:
		return fmt.Errorf("%d of %d were not taken, such as %s", len(t.vain)-lost, n, t.vain[lost])
	}
	return nil
}

// textersFill lets them write until a text is in vain.
func (w *world) textersFill() error {
	const most = 2000
	for n := range most {
		if w.textOnce(n % textersCrowd); len(w.texters.vain) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%d texts do not fill the spool", most)
}

// textOnce makes a person write, and looks how Twilio was answered. A gateway that is
// not there answers nobody; one that is there answers each attempt in time.
func (w *world) textOnce(who int) {
	t := w.texters
	t.mu.Lock()
	text := fmt.Sprintf("%d texts %d", textersFirst+who, t.next[who])
	t.next[who]++
	t.mu.Unlock()
	begun := time.Now()
	sid := w.twilio.Text(fmt.Sprintf("+%d", textersFirst+who), phoneBot, text)
	took := time.Since(begun)
	attempts := w.twilio.Attempts(sid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.twilio.Delivered(sid) {
		t.sent = append(t.sent, text)
	} else {
		t.vain = append(t.vain, text)
	}
	if took > hookTimeLimit*time.Duration(len(attempts)) {
		t.slow = append(t.slow, fmt.Sprintf("%d attempts in %s", len(attempts), took))
	}
	for _, a := range attempts {
		if a.Status != 200 && a.Status != 503 && a.Status != 0 {
			t.slow = append(t.slow, fmt.Sprintf("a status of %d", a.Status))
		}
	}
}

// textersHeard gives an error unless the agent heard each text as one message, and the
// texts of each person in order.
func (w *world) textersHeard() error {
	w.mind.mu.Lock()
	defer w.mind.mu.Unlock()
	if err := errors.Join(w.mind.wrong...); err != nil {
		return err
	}
	messages, last := map[string]int{}, map[int]int{}
	for _, e := range w.mind.events {
		var who, n int
		if _, err := fmt.Sscanf(e.at("text"), "%d texts %d", &who, &n); err != nil {
			continue
		}
		if before, wrote := last[who]; wrote && n <= before {
			return fmt.Errorf("of %d the agent heard %d after %d", who, n, before)
		}
		last[who] = n
		messages[e.at("text")]++
	}
	lost, twice := 0, 0
	for _, text := range w.texters.sent {
		switch n := messages[text]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 {
		return fmt.Errorf("of %d texts %d were not heard, and %d were stored twice", len(w.texters.sent), lost, twice)
	}
	return nil
}

// textersLost gives an error unless nothing that was in vain is stored.
func (w *world) textersLost() error {
	found, err := query(w.dsn, `select text from messages where text like '% texts %'`)
	if err != nil {
		return err
	}
	if len(w.texters.vain) == 0 {
		return errors.New("nothing was in vain")
	}
	for _, vain := range w.texters.vain {
		for _, text := range found {
			if text == vain {
				return fmt.Errorf("%q is stored", text)
			}
		}
	}
	return nil
}

// textersHidden gives an error when a file of the spool tells what somebody wrote, a
// number or a code, or when there is none. The search is not blind: it finds what is
// planted beside it.
func (w *world) textersHidden() error {
	dir := filepath.Join(w.dir, "data", "spool")
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	var all []byte
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, b...)
	}
	if len(all) == 0 {
		return errors.New("the spool is empty")
	}
	needles := append([]string{strconv.Itoa(textersFirst), " texts ", cast["steve"].phone[1:], phoneBot[1:], twilioAccount}, w.codes...)
	if tells(all, needles) != "" {
		return fmt.Errorf("the spool tells %q", tells(all, needles))
	}
	if tells(append(all, "planted: +"+cast["steve"].phone[1:]...), needles) == "" {
		return errors.New("the search is blind")
	}
	return nil
}

func tells(b []byte, needles []string) string {
	b = bytes.ToLower(b)
	for _, n := range needles {
		if bytes.Contains(b, bytes.ToLower([]byte(n))) {
			return n
		}
	}
	return ""
}
