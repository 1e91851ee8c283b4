//go:build unix

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

// smsSenders are users who send SMS concurrently, each one message after the other.
type smsSenders struct {
	mu       sync.Mutex
	next     [smsSenderCount]int
	sent     []string // texts that the gateway accepted
	rejected []string // texts that Twilio gave up on
	late     []string // responses that were late or had an unexpected status
}

const (
	smsSenderCount = 8
	firstSMSNumber = 14155550200 // phone number of the first sender
)

const smsSendersUsage = `usage: sms-senders send N[/FULL] [rejected] | expect-delivered | expect-lost | break-backfill |
	expect-backfill | fill-spool | expect-spool-encrypted`

// smsSendersCommand implements the command sms-senders. Its verb send sends N texts, or FULL in a full
// run. It fails unless all of them are accepted in time or, with the argument rejected, all are rejected.
func (w *scriptFixture) smsSendersCommand(ts *testscript.TestScript, args []string) error {
	if w.smsSenders == nil {
		w.smsSenders = &smsSenders{}
	}
	switch verb := strings.Join(args, " "); {
	case len(args) >= 2 && args[0] == "send":
		n, err := parseCount(args[1])
		if err != nil {
			return err
		}
		rejected := len(args) == 3 && args[2] == "rejected"
		if len(args) != 2 && !rejected {
			return errors.New(smsSendersUsage)
		}
		return w.sendSMS(n, rejected)
	case verb == "expect-delivered":
		return w.app.WaitFor(
			harness.EventTimeout+time.Duration(len(w.smsSenders.sent))*50*time.Millisecond,
			w.checkSMSReceived,
		)
	case verb == "expect-lost":
		return w.checkSMSLost()
	case verb == "fill-spool":
		return w.fillSpool()
	case verb == "break-backfill": // until the script ends
		w.Twilio.Arm("Messages.list", slices.Repeat([]simulator.Fault{{Status: 500, Body: `{"code":20500}`}}, 10_000)...)
		return nil
	case verb == "expect-spool-encrypted":
		return w.checkSpoolEncrypted()
	case verb == "expect-backfill": // the gateway fetches rejected texts from Twilio's log
		w.smsSenders.sent = append(w.smsSenders.sent, w.smsSenders.rejected...)
		w.smsSenders.rejected = nil
		return nil
	}
	return errors.New(smsSendersUsage)
}

// parseCount parses a number such as "200", or "200/4000" for a short and a full run.
func parseCount(arg string) (int, error) {
	short, full, both := strings.Cut(arg, "/")
	if both && harness.FullRun() {
		short = full
	}
	return strconv.Atoi(short)
}

func (w *scriptFixture) sendSMS(n int, reject bool) error {
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
		return fmt.Errorf("%d texts sent, want %d", len(t.sent)+len(t.rejected)-before, n)
	case len(t.late) > 0:
		return fmt.Errorf("%d unexpected responses, such as %s", len(t.late), t.late[0])
	case reject && len(t.rejected)-lost < n:
		return fmt.Errorf("%d of %d texts accepted, want none", n-len(t.rejected)+lost, n)
	case !reject && len(t.rejected) > lost:
		return fmt.Errorf("%d of %d texts rejected, such as %s", len(t.rejected)-lost, n, t.rejected[lost])
	}
	return nil
}

// fillSpool sends texts until one is rejected.
func (w *scriptFixture) fillSpool() error {
	const most = 2000
	for n := range most {
		if w.sendOneSMS(n % smsSenderCount); len(w.smsSenders.rejected) > 0 {
			return nil
		}
	}
	return fmt.Errorf("spool not full after %d texts", most)
}

// sendOneSMS sends a text and records the responses to Twilio. Each attempt must get a response in
// time unless no gateway is running.
func (w *scriptFixture) sendOneSMS(who int) {
	t := w.smsSenders
	t.mu.Lock()
	text := fmt.Sprintf("%d texts %d", firstSMSNumber+who, t.next[who])
	t.next[who]++
	t.mu.Unlock()
	start := time.Now()
	sid := w.Twilio.SendText(fmt.Sprintf("+%d", firstSMSNumber+who), harness.SMSBotNumber, text)
	took := time.Since(start)
	attempts := w.Twilio.Attempts(sid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.Twilio.Delivered(sid) {
		t.sent = append(t.sent, text)
	} else {
		t.rejected = append(t.rejected, text)
	}
	if took > webhookTimeLimit*time.Duration(len(attempts)) {
		t.late = append(t.late, fmt.Sprintf("%d attempts in %s", len(attempts), took))
	}
	for _, a := range attempts {
		if a.Status != 200 && a.Status != 503 && a.Status != 0 {
			t.late = append(t.late, fmt.Sprintf("status %d", a.Status))
		}
	}
}

// checkSMSReceived returns an error unless the application has received each accepted text as one
// message, and the texts of each sender in order.
func (w *scriptFixture) checkSMSReceived() error {
	w.app.Mu.Lock()
	defer w.app.Mu.Unlock()
	if err := errors.Join(w.app.Errs...); err != nil {
		return err
	}
	messages, last := map[string]int{}, map[int]int{}
	for _, e := range w.app.Events {
		for _, text := range e.Texts() {
			var who, n int
			if _, err := fmt.Sscanf(text, "%d texts %d", &who, &n); err != nil {
				continue
			}
			if before, wrote := last[who]; wrote && n <= before {
				return fmt.Errorf("sender %d: application received text %d after %d", who, n, before)
			}
			last[who] = n
			messages[text]++
		}
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
		return fmt.Errorf("of %d texts, %d were not delivered and %d were stored twice", len(w.smsSenders.sent), lost, twice)
	}
	return nil
}

// checkSMSLost returns an error if a rejected text is stored.
func (w *scriptFixture) checkSMSLost() error {
	found, err := harness.QueryRows(w.databaseURL, `select text from messages where text like '% texts %'`)
	if err != nil {
		return err
	}
	if len(w.smsSenders.rejected) == 0 {
		return errors.New("no text was rejected")
	}
	for _, rejected := range w.smsSenders.rejected {
		for _, text := range found {
			if text == rejected {
				return fmt.Errorf("%q is stored", text)
			}
		}
	}
	return nil
}

// checkSpoolEncrypted returns an error if the files of the spool contain a text, a phone number or a
// claim code, or if there are none. It must find a planted phone number.
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
	needles := append(
		[]string{
			strconv.Itoa(firstSMSNumber),
			" texts ",
			users["steve"].phone[1:],
			harness.SMSBotNumber[1:],
			harness.TwilioAccount,
		},
		w.codes...)
	if findNeedle(all, needles) != "" {
		return fmt.Errorf("the spool contains %q", findNeedle(all, needles))
	}
	if findNeedle(append(all, "planted: +"+users["steve"].phone[1:]...), needles) == "" {
		return errors.New("planted phone number not found")
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
