//go:build unix

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/httpapi"
	"hydragate/store"
)

// TestKeysRotateUnderLoad changes the master key by the whole procedure, with two
// gateways restarted in turn, while every channel delivers, people claim, and the agent,
// the agent's own key and Telegram's secret rotate too. The rotation is killed again and
// again in its middle. No request fails, nothing is left on the old key, every code that
// was read out before is good, and everything is as it was when the old key is gone.
// With HYDRAGATE_TEST_LONG=1 it is killed at least twenty times.
func TestKeysRotateUnderLoad(t *testing.T) {
	kills, rows, more := 2, 1000, int64(5)
	if long() {
		kills, rows, more = 24, 30000, 200
	}
	k1, k2 := store.NewMasterKey("k1"), store.NewMasterKey("k2")
	r := newRotation(t, k1, 2)
	r.fill(k1, rows)
	key := r.newKey()
	var held []waitingClaim
	for range 4 {
		c, ok := r.readOut(key)
		if !ok {
			t.Fatal(r.failures)
		}
		held = append(held, c)
	}
	l := r.begin(t)
	redeem := func(when string) {
		t.Helper()
		if c := held[0]; !r.typed(key, c) {
			t.Errorf("a code from before is not good %s", when)
		}
		held = held[1:]
	}

	r.roll(k1 + "," + k2)
	redeem("when all gateways have the new key behind it")
	r.roll(k2 + "," + k1)
	redeem("when all gateways have the new key first")
	before := r.left("k1")
	if before < rows {
		t.Fatalf("%d values are sealed with the old key; the test has none to lose", before)
	}
	killed := 0
	for tries := 0; killed < kills; tries++ {
		if r.killInTheMiddle(k2 + "," + k1) {
			killed++
		} else if tries > 2*kills || r.left("k1") == 0 {
			t.Fatalf("%d of %d kills met it in the middle; %d values are left", killed, kills, r.left("k1"))
		}
	}
	inTheMiddle := r.left("k1")
	if inTheMiddle == 0 {
		t.Error("nothing was left to do after the last kill")
	}
	// Two at once, then what they say.
	said := r.twoAtOnce(k2 + "," + k1)
	if left := r.left("k1"); left != 0 || !strings.Contains(said, "0 values are left on other keys") || !strings.Contains(said, "k1 can be taken out of HYDRAGATE_MASTER_KEYS from ") {
		t.Errorf("%d values are left on the old key; it says %s", left, said)
	}
	redeem("when everything is sealed anew")
	if out, err := r.command(t.Context(), k2+","+k1, r.dsn, "masterkey", "rotate", "--check").CombinedOutput(); err == nil || !strings.Contains(string(out), "1 claim codes and invites") {
		t.Errorf("with a code out that hangs on the old key: %v %s", err, out)
	}
	redeem("when the old key is to go")
	if out, err := r.command(t.Context(), k2+","+k1, r.dsn, "masterkey", "rotate", "--check").CombinedOutput(); err != nil {
		t.Errorf("when nothing hangs on the old key: %v %s", err, out)
	}
	r.roll(k2)
	l.goOn(t, more)
	l.end()
	r.settled(t)
	if n := r.failed.Load(); n != 0 {
		t.Errorf("%d of %d requests failed: %s", n, r.requests.Load(), strings.Join(r.failures, "\n"))
	}
	if r.agent.refused != 0 || r.agent.twice == 0 {
		t.Errorf("the agent refused %d of %d events, %d were signed twice", r.agent.refused, len(r.agent.believed), r.agent.twice)
	}
	if strings.Contains(r.log.String(), "is needed and not among those given") {
		t.Error("a gateway met a value that it could not open")
	}
	t.Logf("%d requests, %d failed; %d claims; %d events believed, %d refused, %d signed twice; %d signing secrets, %d agent keys, %d secrets of Telegram rotated; %d values on the old key before, %d after %d kills, %d at the end",
		r.requests.Load(), r.failed.Load(), l.claims.Load(), len(r.agent.believed), r.agent.refused, r.agent.twice, l.signing.Load(), l.agentKeys.Load(), l.telegrams.Load(), before, inTheMiddle, killed, r.left("k1"))
}

// fill keeps so many answers of calls, sealed with a key, for a rotation to have enough
// to do that it can be killed in the middle.
func (r *rotation) fill(master string, rows int) {
	r.t.Helper()
	keys, err := store.ParseKeyRing(master)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := store.Open(r.t.Context(), r.dsn, keys)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for n := part; n < rows; n += 8 {
				k := httpapi.IdempotencyKey{TenantID: proofTenant, Principal: "nobody", Key: fmt.Sprint(n), Fingerprint: "f"}
				_, _, err := s.Remember(r.t.Context(), k)
				if err == nil {
					err = s.Answered(r.t.Context(), k, httpapi.StoredAnswer{Fingerprint: "f", Status: 201, Body: []byte(`{}`)})
				}
				if err != nil {
					r.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// killInTheMiddle begins a rotation, kills it once it has done something, and reports
// whether something was left then.
func (r *rotation) killInTheMiddle(keys string) bool {
	r.t.Helper()
	left := func() (rows int) {
		(&proofHouse{t: r.t, sql: r.sql}).scan(`select count(*) from idempotency_keys where starts_with(answer, 'v1.k1.')`, nil, &rows)
		return rows
	}
	before := left()
	u, err := url.Parse(r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		r.t.Fatal(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", slowly(r.t, port, networkDelay))
	cmd := r.command(r.t.Context(), keys, u.String(), "masterkey", "rotate")
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); <-look.C {
		if left() < before {
			break
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
	<-time.After(rand.N(10 * time.Millisecond))
	_ = cmd.Process.Kill()
	<-ended
	after := left()
	return after > 0 && after < before
}

// twoAtOnce runs the rotation to its end, twice at the same time, and gives what they
// said.
func (r *rotation) twoAtOnce(keys string) string {
	r.t.Helper()
	var said [2]string
	var both sync.WaitGroup
	for i := range said {
		both.Go(func() {
			out, err := r.command(r.t.Context(), keys, r.dsn, "masterkey", "rotate").CombinedOutput()
			if said[i] = string(out); err != nil {
				r.t.Errorf("masterkey rotate: %v %s", err, out)
			}
		})
	}
	both.Wait()
	return said[0] + said[1]
}

// settled waits until everything that was taken is worked, handed on and answered, and
// finds nothing given up.
func (r *rotation) settled(t *testing.T) {
	t.Helper()
	h := &proofHouse{t: t, sql: r.sql}
	var left int
	eventually(t, "everything is worked", func() bool {
		h.scan(`select (select count(*) from messages where state = 'new') + (select count(*) from deliveries where status = 'pending') + (select count(*) from outbox where status in ('queued', 'sending'))`, nil, &left)
		return left == 0
	})
	var dead, messages int
	h.scan(`select (select count(*) from messages where state = 'dead') + (select count(*) from deliveries where status = 'dead') + (select count(*) from outbox where status = 'failed' and code = 'unreadable')`, nil, &dead)
	h.scan(`select count(*) from deliveries where event_type = 'message.received'`, nil, &messages)
	if dead > 0 || messages == 0 || len(r.agent.believed) < messages {
		t.Errorf("%d were given up; the agent believed %d of %d events", dead, len(r.agent.believed), messages)
	}
}

// TestAKeyTakenOutTooEarlyIsMissed is the control, and what misuse does: everything that
// needs the key fails, says which key, and is there again when the key is.
func TestAKeyTakenOutTooEarlyIsMissed(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	k1, k2 := store.NewMasterKey("k1"), store.NewMasterKey("k2")
	r := newRotation(t, k1, 1)
	key := r.newKey()
	c, ok := r.readOut(key)
	if !ok {
		t.Fatal(r.failures)
	}
	r.leave()
	if out, err := r.command(t.Context(), k2, r.dsn, "serve").CombinedOutput(); err == nil || !strings.Contains(string(out), `HYDRAGATE_MASTER_KEYS opens nothing that this database holds: add what is missing, "k1" for`) {
		t.Errorf("started with a key that sealed nothing: %v %s", err, out)
	}
	r.join(r.start(k2 + "," + k1))
	r.must(rotationKey, "POST", "/v1/instances", map[string]any{"name": "sealed with the other key"}, nil)
	r.leave()
	early := r.start(k2)
	r.join(early)
	for name, says := range map[string]func() (string, http.Header, []byte){
		"telegram": func() (string, http.Header, []byte) { return r.telegramSays(c.person, "hello") },
		"sms":      func() (string, http.Header, []byte) { return r.smsSays(r.p.twilioToken, "hello") },
		"slack":    func() (string, http.Header, []byte) { return r.slackSays(r.p.slackSecret, "hello") },
	} {
		if status := r.delivers(says()); status != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d", name, status)
		}
	}
	if r.failed.Load() == 0 {
		t.Error("the test does not see that requests fail")
	}
	if log := r.log.String(); !strings.Contains(log, `master key \"k1\" is needed`) || !strings.Contains(log, "HYDRAGATE_MASTER_KEYS") || strings.Contains(log, strings.SplitN(k1, ":", 2)[1]) {
		t.Errorf("it does not say which key is missing, or too much: %s", log)
	}
	out, err := r.command(t.Context(), k2, r.dsn, "masterkey", "rotate").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `"k1" is not among the keys given`) {
		t.Errorf("rotated without the old key: %v %s", err, out)
	}
	if out, err := r.command(t.Context(), k2, r.dsn, "doctor").CombinedOutput(); err == nil || !strings.Contains(string(out), `✗ master keys: "k1" is missing for`) {
		t.Errorf("doctor: %v %s", err, out)
	}
	if out, err := r.command(t.Context(), store.NewMasterKey("k1"), r.dsn, "serve").CombinedOutput(); err == nil || !strings.Contains(string(out), `the key "k1" is another one than the "k1" of this database`) {
		t.Errorf("started with another key of the same id: %v %s", err, out)
	}

	// A gateway with both takes a claim and stops; the one without waits with it.
	r.leave()
	r.join(r.start(k2 + "," + k1))
	h := &proofHouse{t: t, sql: r.sql}
	h.exec(`update lanes set lease_until = now() + interval '1 hour'`) // nobody works for now
	if status := r.delivers(r.telegramSays(c.person, "/claim "+c.code)); status != http.StatusOK {
		t.Fatalf("with both keys: %d %v", status, r.failures)
	}
	h.exec(`update lanes set lease_until = now() + interval '1 hour', holder = 'nobody' where kind = 'inbox'`)
	r.leave()
	h.exec(`update identities set claim_key = 'k1' where claim_gen > 0`)
	early = r.start(k2)
	r.join(early)
	h.exec(`update lanes set lease_until = now(), due_at = now() where kind = 'inbox'`)
	eventually(t, "the message is looked at without the key", func() bool { return strings.Contains(r.log.String(), `"message not worked"`) })
	var state string
	var attempts int
	h.scan(`select state, attempts from messages where sealed is not null or text like '/claim%'`, nil, &state, &attempts)
	if state != "new" || attempts != 0 {
		t.Errorf("the message is %s after %d attempts; want it left alone", state, attempts)
	}
	r.leave()
	r.join(r.start(k2 + "," + k1))
	h.exec(`update lanes set due_at = now() where kind = 'inbox'`)
	var seen struct {
		Verified bool `json:"verified"`
	}
	eventually(t, "the claim is granted with the key", func() bool {
		return r.call(key, "GET", c.at, nil, &seen) && seen.Verified
	})
}

// TestReplacedProviderSecretsEnd sets every channel up again with another secret. What
// the provider signed with the old one is taken until its time is over, by the database's
// clock, or until staff say so; what is signed with anything else never is.
func TestReplacedProviderSecretsEnd(t *testing.T) {
	t.Parallel()
	r := newRotation(t, store.NewMasterKey("k1"), 1)
	h := &proofHouse{t: t, sql: r.sql}
	says := map[string]func(secret string) (string, http.Header, []byte){
		"telegram": func(secret string) (string, http.Header, []byte) {
			path, header, body := r.telegramSays(770001, "hello")
			header.Set("X-Telegram-Bot-Api-Secret-Token", secret)
			return path, header, body
		},
		"sms":   func(secret string) (string, http.Header, []byte) { return r.smsSays(secret, "hello") },
		"slack": func(secret string) (string, http.Header, []byte) { return r.slackSays(secret, "hello") },
	}
	setUps := map[string]func() (secret string, body map[string]any){
		"telegram": func() (string, map[string]any) { return "", map[string]any{"bot_token": r.p.telegramToken} },
		"sms": func() (string, map[string]any) {
			r.p.twilioToken = newHex()
			r.p.twilio.RotateToken(r.p.twilioSID, r.p.twilioToken)
			return r.p.twilioToken, map[string]any{"account_sid": r.p.twilioSID, "auth_token": r.p.twilioToken, "phone_number": demoSMSNumber}
		},
		"slack": func() (string, map[string]any) {
			r.p.slackSecret = newHex()
			return r.p.slackSecret, map[string]any{"bot_token": r.p.slackToken, "signing_secret": r.p.slackSecret}
		},
	}
	// All come from one address, which is told to slow down when too much of it is forged.
	refused := func(status int) bool { return status == http.StatusForbidden || status == http.StatusTooManyRequests }
	for channel, say := range says {
		t.Run(channel, func(t *testing.T) {
			status := func(secret string) int {
				path, header, body := say(secret)
				got, _, _ := r.ask("POST", path, header, body)
				return got
			}
			again := func(more map[string]any) string {
				t.Helper()
				secret, body := setUps[channel]()
				maps.Copy(body, more)
				r.must(rotationKey, "POST", r.channel(channel), body, nil)
				if channel == "telegram" {
					_, secret = r.p.telegram.Webhook(demoBot)
				}
				return secret
			}
			first := map[string]string{"sms": r.p.twilioToken, "slack": r.p.slackSecret}[channel]
			if channel == "telegram" {
				_, first = r.p.telegram.Webhook(demoBot)
			}
			second := again(nil)
			if a, b, c := status(first), status(second), status(newHex()); a != 200 || b != 200 || !refused(c) {
				t.Errorf("in the overlap the old one is answered %d, the new one %d, another %d", a, b, c)
			}
			h.exec(`update endpoints set old_until = now() - interval '1 second' where channel = $1`, channel)
			eventually(t, "the old one is refused after its time", func() bool { return refused(status(first)) })
			third := again(map[string]any{"overlap_seconds": 0})
			if a, b, c := status(first), status(second), status(third); !refused(a) || !refused(b) || c != 200 {
				t.Errorf("ended by staff the first is answered %d, the second %d, the new one %d", a, b, c)
			}
		})
	}
	t.Run("credentials of another row", func(t *testing.T) {
		eventually(t, "somebody is answered", func() bool {
			var n int
			h.scan(`select count(*) from outbox where channel = 'sms' and status in ('sent', 'delivered')`, nil, &n)
			return n > 0
		})
		h.exec(`update endpoints set credentials = (select o.credentials from endpoints o where o.channel = 'slack') where channel = 'sms'`)
		eventually(t, "the hook is closed", func() bool {
			status, _, _ := r.ask("POST", "/hooks/sms/"+r.instance, http.Header{}, nil)
			return status == 503
		})
		// Answers to what was said before wait from now on, but for one that is on its way.
		eventually(t, "nothing is on its way", func() bool {
			var n int
			h.scan(`select count(*) from outbox where channel = 'sms' and status = 'sending'`, nil, &n)
			return n == 0
		})
		said := func() (n int) {
			for who := range 20 {
				n += len(r.p.twilio.Answers(fmt.Sprintf("+614001%05d", who)))
			}
			return n
		}
		sent := said()
		if sent == 0 {
			t.Error("nobody was ever answered: the test sees nothing")
		}
		path, header, body := r.smsSays(r.p.twilioToken, "hello")
		if status, _, _ := r.ask("POST", path, header, body); status != 503 {
			t.Errorf("a genuine message is answered %d", status)
		}
		h.exec(`update outbox set status = 'queued', due_at = now(), attempts = 0, provider_id = null where id = (select min(cast(id as text))::uuid from outbox where channel = 'sms' and status in ('sent', 'delivered'))`)
		h.exec(`update lanes set due_at = now() where kind = 'outbox'`)
		eventually(t, "a reply is held back", func() bool { return strings.Contains(r.log.String(), `"outcome":"queued","reason":"unreachable"`) })
		if n := said(); n != sent {
			t.Errorf("%d texts were sent", n-sent)
		}
		if log := r.log.String(); strings.Contains(log, r.p.slackSecret) || strings.Contains(log, r.p.twilioToken) {
			t.Error("a secret is in the log")
		}
	})
}
