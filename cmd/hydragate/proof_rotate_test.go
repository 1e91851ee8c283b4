//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	kills, rows := 4, 3000
	if long() {
		kills, rows = 24, 30000
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
	for killed < kills {
		if r.killInTheMiddle(k2 + "," + k1) {
			killed++
		} else if r.left("k1") == 0 {
			t.Fatalf("it was done after %d of %d kills", killed, kills)
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
	if out, err := r.command(t.Context(), k2+","+k1, r.dsn, "masterkey", "rotate", "--check").CombinedOutput(); err == nil || !strings.Contains(string(out), "1 claim codes") {
		t.Errorf("with a code out that hangs on the old key: %v %s", err, out)
	}
	redeem("when the old key is to go")
	if out, err := r.command(t.Context(), k2+","+k1, r.dsn, "masterkey", "rotate", "--check").CombinedOutput(); err != nil {
		t.Errorf("when nothing hangs on the old key: %v %s", err, out)
	}
	r.roll(k2)
	l.goOn(t, 40)
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
	before := r.left(keyIDOf(strings.Split(keys, ",")[1]))
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
		var rows int
		(&proofHouse{t: r.t, sql: r.sql}).scan(`select count(*) from idempotency_keys where starts_with(answer, 'v1.k1.')`, nil, &rows)
		if rows < before-10 {
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
	after := r.left(keyIDOf(strings.Split(keys, ",")[1]))
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

// A load is what goes on meanwhile.
type load struct {
	r    *rotation
	stop context.CancelFunc
	all  sync.WaitGroup

	claims, signing, agentKeys, telegrams atomic.Int64
}

const loadPace = 25 * time.Millisecond

func (r *rotation) begin(t *testing.T) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{r: r, stop: stop}
	t.Cleanup(stop)
	every := func(d time.Duration, do func()) {
		l.all.Go(func() {
			pace := time.NewTicker(d)
			defer pace.Stop()
			for {
				select {
				case <-pace.C:
					do()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	every(loadPace, func() { r.delivers(r.telegramSays(770000+rand.Int64N(20), "hello")) })
	every(loadPace, func() { r.delivers(r.smsSays(r.p.twilioToken, "hello")) })
	every(loadPace, func() { r.delivers(r.slackSays(r.p.slackSecret, "hello")) })
	for range 2 {
		key, issued := r.newKey(), 0
		every(loadPace, func() {
			if issued++; issued%40 == 0 { // a member of staff issues sixty codes an hour
				key = r.newKey()
			}
			if c, ok := r.readOut(key); ok && r.typed(key, c) {
				l.claims.Add(1)
			}
		})
	}
	every(loadPace, l.repeatedCalls(r.newKey()))
	every(loadPace, func() {
		status, answer, _ := r.ask("GET", "/external/users/search?email=nobody@example.com", http.Header{"Agent-Secret-Key": {r.agentKey.Load().(string)}}, nil)
		if status != http.StatusNotFound {
			r.fails("a conversation user", status, answer)
		}
	})
	every(time.Second, func() { l.rotateSigning(ctx) })
	every(time.Second, func() { l.rotateAgentKey(ctx) })
	every(time.Second, func() {
		var seat struct {
			Status string `json:"status"`
		}
		if r.call(rotationKey, "POST", r.channel("telegram"), map[string]any{"bot_token": r.p.telegramToken}, &seat); seat.Status != "active" {
			r.fails("setting up Telegram", 0, []byte(seat.Status))
		}
		l.telegrams.Add(1)
	})
	return l
}

// repeatedCalls makes calls, and repeats those made before: the answer must be the same
// whatever it was sealed with.
func (l *load) repeatedCalls(key string) func() {
	type made struct{ id, body, answer string }
	var all []made
	n := 0
	post := func(id, body string) (int, string, http.Header) {
		status, answer, said := l.r.ask("POST", "/v1/customers", http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}, "Idempotency-Key": {id}}, []byte(body))
		return status, string(answer), said
	}
	return func() {
		n++
		if n%4 == 1 {
			m := made{id: fmt.Sprint("call ", n), body: fmt.Sprintf(`{"first_name":"Steve %d"}`, n)}
			status, answer, _ := post(m.id, m.body)
			if status != http.StatusCreated {
				l.r.fails("a call", status, []byte(answer))
				return
			}
			m.answer = answer
			all = append(all, m)
			return
		}
		m := all[rand.N(len(all))]
		if status, answer, said := post(m.id, m.body); status != http.StatusCreated || answer != m.answer || said.Get("Idempotency-Replayed") != "true" {
			l.r.fails("a repeated call", status, []byte(answer))
		}
	}
}

// switchTime is how long the owner of a runtime takes to tell it its new secret, at the
// least: what was signed before is on its way no more.
const switchTime = 2 * time.Second

func (l *load) rotateSigning(ctx context.Context) {
	var made struct {
		WebhookSecret string    `json:"webhook_secret"`
		OldGoodUntil  time.Time `json:"old_good_until"`
	}
	if !l.r.call(rotationKey, "POST", "/v1/instances/"+l.r.instance+"/webhook-secret/rotate", map[string]any{"overlap_seconds": 600}, &made) {
		return
	}
	select {
	case <-time.After(switchTime):
	case <-ctx.Done():
	}
	l.r.agent.knows(made.WebhookSecret)
	l.signing.Add(1)
}

func (l *load) rotateAgentKey(ctx context.Context) {
	var made struct {
		AgentSecretKey string `json:"agent_secret_key"`
	}
	if !l.r.call(rotationKey, "POST", "/v1/instances/"+l.r.instance+"/agent-secret-key/rotate", nil, &made) {
		return
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	l.r.agentKey.Store(made.AgentSecretKey)
	l.agentKeys.Add(1)
}

// goOn waits until so many claims more went well.
func (l *load) goOn(t *testing.T, claims int64) {
	t.Helper()
	from := l.claims.Load()
	eventually(t, "claims go on", func() bool { return l.claims.Load() >= from+claims || t.Failed() })
}

func (l *load) end() {
	l.stop()
	l.all.Wait()
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
	k1, k2 := store.NewMasterKey("k1"), store.NewMasterKey("k2")
	r := newRotation(t, k1, 1)
	key := r.newKey()
	c, ok := r.readOut(key)
	if !ok {
		t.Fatal(r.failures)
	}
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

// TestEmbeddedKeysRotate changes the key of a gateway that keeps its own, with one
// command, while it runs; and kills that command.
func TestEmbeddedKeysRotate(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command("hydragate", append(args, "--data-dir", dir)...)
		return cmd
	}
	_ = run
	_ = json.Valid
}
