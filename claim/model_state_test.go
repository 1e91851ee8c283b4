package claim

import (
	"fmt"
	"strings"
)

// The model holds what two stores and some processes that may stop anywhere know of
// one identity: three messages, two codes, an expiry for each, a hand that takes a
// verification back, a stranger who types the right letters, and a Redis that forgets
// or falls back to an older copy of itself. How many wrong tries there were is left
// out; the suite of claimtest and the proofs in cmd/hydragate hold that.
const (
	modelMessages = 3
	modelCodes    = 2
	modelGens     = modelCodes + 1 // taking back a verification uses up a generation too
)

// A world is one state. It is comparable, and holds nothing a process could not lose
// except what a ghost knows.
type world struct {
	// What the row of the identity says.
	gen      int8 // claim_gen
	coded    bool // claim_expires_at is not null
	used     int8 // claim_used_msg: number of the message, 0 is null
	revoked  bool // claim_revoked_at is not null
	verified bool // verified_at is not null

	expired int8 // codes of this generation and older are past claim_expires_at

	redis int8 // generation of the proof kept; 0 is none
	owner int8 // message that holds it, where an order reserves
	older int8 // the same of the copy that a failover brings back

	issues   [modelGens + 1]issuing
	messages [modelMessages]letter

	crashes, failovers, takings, burns int8

	// ghost: what really happened, whatever any store says.
	granted  [modelGens + 1]int8
	replaced [modelGens + 1]bool // a newer code was read out to staff
	dead     [modelGens + 1]bool // nobody may be granted by it any more
}

// issuing says how far a press of "Generate code" has come.
type issuing int8

const (
	notPressed issuing = iota
	counted            // I1: the row says so
	kept               // I2: Redis has the proof
	answered           // I3: staff have the code
	abandoned          // the process stopped before
)

// A letter is one message with a code, and what the worker who has it in hand knows.
type letter struct {
	code     int8 // generation of the code in it; 0: not written yet
	received int8 // codes of this generation and older had expired when it was stored
	at       int8 // index of the next step
	seen     row  // what the worker read
	found    letterVerdict
	answer   reply
}

// A row is what a worker remembers of the identity.
type row struct {
	gen      int8
	live     bool
	verified bool
	mine     bool // this very message redeemed the code
}

// A letterVerdict is a Verdict, small enough for many worlds.
type letterVerdict int8

const (
	vNone letterVerdict = iota
	vMatch
	vWrong
	vMissing
	vStale
)

type reply int8

const (
	silent reply = iota
	granted
	already
	declined
	lost
)

var replies = [...]string{"", "granted", "already verified", "declined", "lost"}

// inTime reports whether m was received before the code of generation gen expired.
func (m letter) inTime(gen int8) bool { return m.received < gen }

// read is what Store.State reads of the row for message i: the case expression of its
// fence, verified_at, and claim_used_msg.
func (w *world) read(i int) row {
	m := &w.messages[i]
	return row{
		gen:      w.gen,
		live:     w.coded && w.used == 0 && !w.revoked && m.inTime(w.gen),
		verified: w.verified,
		mine:     w.used == int8(i+1),
	}
}

// check is the script of redisproof.Check: missing, stale, then the comparison. The
// proof is made of the generation and the code, so that a code matches its own
// generation alone.
func (w *world) check(i int) letterVerdict {
	m := &w.messages[i]
	switch {
	case w.redis == 0 || m.seen.gen == 0:
		return vMissing
	case w.redis != m.seen.gen:
		return vStale
	case m.code == w.redis:
		return vMatch
	}
	return vWrong
}

// grant notes that the code of message i opened the identity.
func (w *world) grant(i int) {
	m := &w.messages[i]
	w.granted[m.code]++
	w.dead[m.code] = true
	m.answer = granted
}

// good reports whether message i has every right to be granted now.
func (w *world) good(i int) bool {
	m := &w.messages[i]
	return m.code > 0 && m.inTime(m.code) && !w.dead[m.code] && !w.verified
}

// killOlder marks every code below gen as dead.
func (w *world) killOlder(gen int8) {
	for n := int8(1); n < gen; n++ {
		w.dead[n] = true
	}
}

// codes counts the presses.
func (w *world) codes() (n int) {
	for _, i := range w.issues {
		if i != notPressed {
			n++
		}
	}
	return n
}

// A wrong is what must never happen.
type wrong string

const (
	twice      wrong = "granted twice"
	afterNew   wrong = "granted after a completed re-issue"
	tooLate    wrong = "granted for a message received after expiry"
	calledOff  wrong = "a valid code in time answered as invalid"
	afterTaken wrong = "granted after the verification was taken back"
)

// faults names what went wrong with the step of message i from before to w.
func (w *world) faults(before *world, i int) (ws []wrong) {
	m, code := &w.messages[i], w.messages[i].code
	if n := w.granted[code]; n > before.granted[code] {
		if n > 1 {
			ws = append(ws, twice)
		}
		if before.replaced[code] {
			ws = append(ws, afterNew)
		}
		if !m.inTime(code) {
			ws = append(ws, tooLate)
		}
		if n == 1 && before.dead[code] && before.takings > 0 && !before.replaced[code] {
			ws = append(ws, afterTaken)
		}
	}
	if m.answer == declined && before.messages[i].answer == silent && before.good(i) {
		ws = append(ws, calledOff)
	}
	return ws
}

func (w world) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "row: gen %d", w.gen)
	for _, f := range []struct {
		is   bool
		name string
	}{{w.coded, "coded"}, {w.used > 0, fmt.Sprintf("used by %d", w.used)}, {w.revoked, "revoked"}, {w.verified, "verified"}} {
		if f.is {
			b.WriteString(", " + f.name)
		}
	}
	fmt.Fprintf(&b, "; redis: %d (older copy %d); expired to %d", w.redis, w.older, w.expired)
	return b.String()
}
