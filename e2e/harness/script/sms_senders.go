package script

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
	"hydragate/e2e/harness"
)

// Texters are many people who text at the same time, each one message after the other.
type smsSenders struct {
	mu       sync.Mutex
	next     [smsSenderCount]int
	sent     []string // what they texted that is the gateway's to keep
	rejected []string // what Twilio gave up
	late     []string // answers that came too late
}

const (
	smsSenderCount = 8
	firstSMSNumber = 14155550200 // number of the first
)

const smsSendersUsage = `usage: texters write N[/LONG] [in vain] | were heard | were lost | are [not] in the log of Twilio |
	fill the spool | leave nothing readable`

// texters write N [in vain] makes them write N texts in all, or LONG when the run is a
// long one. Each is to be taken at once and in time; in vain, Twilio is to give each up.
func (w *scriptFixture) smsSendersCommand(ts *testscript.TestScript, args []string) error {
	if w.smsSenders == nil {
		w.smsSenders = &smsSenders{}
	}
	switch does := strings.Join(args, " "); {
	case len(args) >= 2 && args[0] == "write":
		n, err := parseCount(args[1])
		if err != nil {
			return err
		}
		vain := len(args) == 4 && args[2] == "in" && args[3] == "vain"
		if len(args) != 2 && !vain {
			return errors.New(smsSendersUsage)
		}
		return w.sendSMS(n, vain)
	case does == "were heard":
		return w.app.WaitFor(harness.EventTimeout+time.Duration(len(w.smsSenders.sent))*50*time.Millisecond, w.checkSMSReceived)
	case does == "were lost":
		return w.checkSMSLost()
	case does == "fill the spool":
		return w.fillSpool()
	case does == "are not in the log of Twilio": // for the rest of the story
		w.twilio.Arm("Messages.list", slices.Repeat([]simulator.Fault{{Status: 500, Body: `{"code":20500}`}}, 10_000)...)
		return nil
	case does == "leave nothing readable":
		return w.checkSpoolEncrypted()
	case does == "are in the log of Twilio": // and so the gateway's to fetch
		w.smsSenders.sent = append(w.smsSenders.sent, w.smsSenders.rejected...)
		w.smsSenders.rejected = nil
		return nil
	}
	return errors.New(smsSendersUsage)
}

// parseCount reads "200/4000": the first in a short run, the second in a long one.
func parseCount(arg string) (int, error) {
	short, full, both := strings.Cut(arg, "/")
	if both && harness.FullRun() {
		short = full
	}
	return strconv.Atoi(short)
}

func (w *scriptFixture) sendSMS(n int, vain bool) error {
	var all sync.WaitGroup
	before, lost := len(w.smsSenders.sent)+len(w.smsSenders.rejected), len(w.smsSenders.rejected)
	for who := range smsSenderCount {
		all.Go(func() {
			for range (n + smsSenderCount - 1 - who) / smsSenderCount {
				w.sendOneSMS(who)
			}
		})
	}
	all.Wait()
	t := w.smsSenders
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.sent)+len(t.rejected) != before+n:
		return fmt.Errorf("they texted %d, not %d", len(t.sent)+len(t.rejected)-before, n)
	case len(t.late) > 0:
		return fmt.Errorf("%d answers came too late, such as %s", len(t.late), t.late[0])
	case vain && len(t.rejected)-lost < n:
		return fmt.Errorf("%d of %d were taken all the same", n-len(t.rejected)+lost, n)
	case !vain && len(t.rejected) > lost:
		return fmt.Errorf("%d of %d were not taken, such as %s", len(t.rejected)-lost, n, t.rejected[lost])
	}
	return nil
}

// fillSpool lets them write until a text is in vain.
func (w *scriptFixture) fillSpool() error {
	const most = 2000
	for n := range most {
		if w.sendOneSMS(n % smsSenderCount); len(w.smsSenders.rejected) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%d texts do not fill the spool", most)
}

// sendOneSMS makes a person write, and looks how Twilio was answered. A gateway that is
// not there answers nobody; one that is there answers each attempt in time.
func (w *scriptFixture) sendOneSMS(who int) {
	t := w.smsSenders
	t.mu.Lock()
	text := fmt.Sprintf("%d texts %d", firstSMSNumber+who, t.next[who])
	t.next[who]++
	t.mu.Unlock()
	begun := time.Now()
	sid := w.twilio.SendText(fmt.Sprintf("+%d", firstSMSNumber+who), harness.SMSBotNumber, text)
	took := time.Since(begun)
	attempts := w.twilio.Attempts(sid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.twilio.Delivered(sid) {
		t.sent = append(t.sent, text)
	} else {
		t.rejected = append(t.rejected, text)
	}
	if took > webhookTimeLimit*time.Duration(len(attempts)) {
		t.late = append(t.late, fmt.Sprintf("%d attempts in %s", len(attempts), took))
	}
	for _, a := range attempts {
		if a.Status != 200 && a.Status != 503 && a.Status != 0 {
			t.late = append(t.late, fmt.Sprintf("a status of %d", a.Status))
		}
	}
}

// checkSMSReceived gives an error unless the agent heard each text as one message, and the
// texts of each person in order.
func (w *scriptFixture) checkSMSReceived() error {
	w.app.Mu.Lock()
	defer w.app.Mu.Unlock()
	if err := errors.Join(w.app.Errs...); err != nil {
		return err
	}
	messages, last := map[string]int{}, map[int]int{}
	for _, e := range w.app.Events {
		var who, n int
		if _, err := fmt.Sscanf(e.Field("text"), "%d texts %d", &who, &n); err != nil {
			continue
		}
		if before, wrote := last[who]; wrote && n <= before {
			return fmt.Errorf("of %d the agent heard %d after %d", who, n, before)
		}
		last[who] = n
		messages[e.Field("text")]++
	}
	lost, twice := 0, 0
	for _, text := range w.smsSenders.sent {
		switch n := messages[text]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 {
		return fmt.Errorf("of %d texts %d were not heard, and %d were stored twice", len(w.smsSenders.sent), lost, twice)
	}
	return nil
}

// checkSMSLost gives an error unless nothing that was in vain is stored.
func (w *scriptFixture) checkSMSLost() error {
	found, err := harness.QueryRows(w.databaseURL, `select text from messages where text like '% texts %'`)
	if err != nil {
		return err
	}
	if len(w.smsSenders.rejected) == 0 {
		return errors.New("nothing was in vain")
	}
	for _, vain := range w.smsSenders.rejected {
		for _, text := range found {
			if text == vain {
				return fmt.Errorf("%q is stored", text)
			}
		}
	}
	return nil
}

// checkSpoolEncrypted gives an error when a file of the spool tells what somebody wrote, a
// number or a code, or when there is none. The search is not blind: it finds what is
// planted beside it.
func (w *scriptFixture) checkSpoolEncrypted() error {
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
	needles := append([]string{strconv.Itoa(firstSMSNumber), " texts ", users["steve"].phone[1:], harness.SMSBotNumber[1:], harness.TwilioAccount}, w.codes...)
	if findNeedle(all, needles) != "" {
		return fmt.Errorf("the spool tells %q", findNeedle(all, needles))
	}
	if findNeedle(append(all, "planted: +"+users["steve"].phone[1:]...), needles) == "" {
		return errors.New("the search is blind")
	}
	return nil
}

func findNeedle(b []byte, needles []string) string {
	b = bytes.ToLower(b)
	for _, n := range needles {
		if bytes.Contains(b, bytes.ToLower([]byte(n))) {
			return n
		}
	}
	return ""
}
