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

// A modelState is one state. It is comparable, and holds nothing a process could not lose
// except what a ghost knows.
type modelState struct {
	// What the row of the identity says.
	gen      int8 // claim_gen
	hasCode  bool // claim_expires_at is not null
	used     int8 // claim_used_msg: number of the message, 0 is null
	revoked  bool // claim_revoked_at is not null
	verified bool // verified_at is not null

	expired int8 // codes of this generation and older are past claim_expires_at

	redis      int8 // generation of the proof kept; 0 is none
	reservedBy int8 // message that holds it, where an order reserves
	replica    int8 // the same of the copy that a failover brings back

	issues   [modelGens + 1]issueStage
	messages [modelMessages]modelMessage

	crashes, failovers, unverifications, revocations int8

	// ghost: what really happened, whatever any store says.
	grants   [modelGens + 1]int8
	replaced [modelGens + 1]bool // a newer code was read out to staff
	invalid  [modelGens + 1]bool // nobody may be granted by it any more
}

// issueStage says how far a press of "Generate code" has come.
type issueStage int8

const (
	notStarted     issueStage = iota
	genIncremented            // I1: the row says so
	codeStored                // I2: Redis has the proof
	codeReturned              // I3: staff have the code
	abandoned                 // the process stopped before
)

// A modelMessage is one message with a code, and what the worker who has it in hand knows.
type modelMessage struct {
	code      int8        // generation of the code in it; 0: not written yet
	received  int8        // codes of this generation and older had expired when it was stored
	stepIndex int8        // index of the next step
	lastRow   identityRow // what the worker read
	result    modelResult
	reply     modelReply
}

// A identityRow is what a worker remembers of the identity.
type identityRow struct {
	gen               int8
	live              bool
	verified          bool
	redeemedByMessage bool // this very message redeemed the code
}

// A modelResult is a Verdict, small enough for many worlds.
type modelResult int8

const (
	vNone modelResult = iota
	vMatch
	vWrong
	vMissing
	vStale
)

type modelReply int8

const (
	noReply modelReply = iota
	granted
	alreadyVerified
	declined
	codeLost
)

var replyNames = [...]string{"", "granted", "already verified", "declined", "lost"}

// inTime reports whether m was received before the code of generation gen expired.
func (m modelMessage) inTime(gen int8) bool { return m.received < gen }

// readRow is what Store.State reads of the row for message i: the case expression of its
// fence, verified_at, and claim_used_msg.
func (w *modelState) readRow(i int) identityRow {
	m := &w.messages[i]
	return identityRow{
		gen:               w.gen,
		live:              w.hasCode && w.used == 0 && !w.revoked && m.inTime(w.gen),
		verified:          w.verified,
		redeemedByMessage: w.used == int8(i+1),
	}
}

// check is the script of redisproof.Check: missing, stale, then the comparison. The
// proof is made of the generation and the code, so that a code matches its own
// generation alone.
func (w *modelState) check(i int) modelResult {
	m := &w.messages[i]
	switch {
	case w.redis == 0 || m.lastRow.gen == 0:
		return vMissing
	case w.redis != m.lastRow.gen:
		return vStale
	case m.code == w.redis:
		return vMatch
	}
	return vWrong
}

// recordGrant notes that the code of message i opened the identity.
func (w *modelState) recordGrant(i int) {
	m := &w.messages[i]
	w.grants[m.code]++
	w.invalid[m.code] = true
	m.reply = granted
}

// shouldBeGranted reports whether message i has every right to be granted now.
func (w *modelState) shouldBeGranted(i int) bool {
	m := &w.messages[i]
	return m.code > 0 && m.inTime(m.code) && !w.invalid[m.code] && !w.verified
}

// invalidateOlder marks every code below gen as dead.
func (w *modelState) invalidateOlder(gen int8) {
	for n := int8(1); n < gen; n++ {
		w.invalid[n] = true
	}
}

// issuedCodes counts the presses.
func (w *modelState) issuedCodes() (n int) {
	for _, i := range w.issues {
		if i != notStarted {
			n++
		}
	}
	return n
}

// A violation is what must never happen.
type violation string

const (
	grantedTwice         violation = "granted twice"
	grantedAfterReissue  violation = "granted after a completed re-issue"
	grantedAfterExpiry   violation = "granted for a message received after expiry"
	validCodeDeclined    violation = "a valid code in time answered as invalid"
	grantedAfterUnverify violation = "granted after the verification was taken back"
)

// violations names what went wrong with the step of message i from before to w.
func (w *modelState) violations(before *modelState, i int) (ws []violation) {
	m, code := &w.messages[i], w.messages[i].code
	if n := w.grants[code]; n > before.grants[code] {
		if n > 1 {
			ws = append(ws, grantedTwice)
		}
		if before.replaced[code] {
			ws = append(ws, grantedAfterReissue)
		}
		if !m.inTime(code) {
			ws = append(ws, grantedAfterExpiry)
		}
		if n == 1 && before.invalid[code] && before.unverifications > 0 && !before.replaced[code] {
			ws = append(ws, grantedAfterUnverify)
		}
	}
	if m.reply == declined && before.messages[i].reply == noReply && before.shouldBeGranted(i) {
		ws = append(ws, validCodeDeclined)
	}
	return ws
}

func (w modelState) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "row: gen %d", w.gen)
	for _, f := range []struct {
		is   bool
		name string
	}{{w.hasCode, "coded"}, {w.used > 0, fmt.Sprintf("used by %d", w.used)}, {w.revoked, "revoked"}, {w.verified, "verified"}} {
		if f.is {
			b.WriteString(", " + f.name)
		}
	}
	fmt.Fprintf(&b, "; redis: %d (older copy %d); expired to %d", w.redis, w.replica, w.expired)
	return b.String()
}
