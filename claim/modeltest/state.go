package modeltest

import (
	"fmt"
	"strings"
)

// The model covers one identity, the database, Redis, and processes that may stop at any point:
// three messages, two codes that may expire, staff who revoke a verification, a stranger who types
// the right letters, and a Redis that loses its data or returns to an older copy. It does not count
// wrong tries; claimtest and e2e/claims test that.
const (
	modelMessages = 3
	modelCodes    = 2
	modelGens     = modelCodes + 1 // revoking a verification also takes a generation
)

// A modelState is one state of the model. It is comparable. Only the fields below "ghost" contain
// information that no process or store has.
type modelState struct {
	// The columns of the identity.
	gen      int8 // claim_gen
	hasCode  bool // claim_expires_at is not null
	used     int8 // claim_used_msg: number of the message, 0 is null
	revoked  bool // claim_revoked_at is not null
	verified bool // verified_at is not null

	expired int8 // codes of this generation and older are past claim_expires_at

	redis      int8 // generation of the stored code; 0 for none
	reservedBy int8 // message that reserved it, in protocols that reserve
	replica    int8 // the same in the replica that a failover promotes

	issues   [modelGens + 1]issueStage
	messages [modelMessages]modelMessage

	needsOwner bool                        // the customer has a verified owner, who confirms claims
	requests   [modelMessages]modelRequest // by the message with the code
	answers    [modelAnswers]modelAnswer

	crashes, failovers, unverifications, revocations int8

	// ghost: what has happened, whatever the stores contain.
	grants   [modelGens + 1]int8
	replaced [modelGens + 1]bool // a newer code was read out to staff
	invalid  [modelGens + 1]bool // must not be granted anymore
	asked    [modelGens + 1]bool // the code is used, and only an owner can grant it
}

// issueStage is the progress of a call of IssueCode.
type issueStage int8

const (
	notStarted     issueStage = iota
	genIncremented            // I1: in the database
	codeStored                // I2: Redis has the code
	codeReturned              // I3: staff have the code
	abandoned                 // the process stopped
)

// A modelMessage is a message with a code, and the state of the worker that processes it.
type modelMessage struct {
	code      int8        // generation of its code; 0 if not typed yet
	received  int8        // codes of this generation and older had expired when it was stored
	lapsed    requestSet  // requests that had lapsed when it was stored
	stepIndex int8        // index of the next step
	lastRow   identityRow // what the worker read
	result    modelResult
	reply     modelReply
}

// An identityRow is what a worker has read of the identity.
type identityRow struct {
	gen               int8
	live              bool
	verified          bool
	redeemedByMessage bool // this message redeemed the code
	awaitsOwner       bool // the code is used and waits for an owner
}

// A modelResult is a Result in one byte.
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
	awaitingOwner
)

var replyNames = [...]string{"", "granted", "already verified", "declined", "lost", "awaiting owner"}

// inTime reports whether m was received before the code of generation gen expired.
func (m modelMessage) inTime(gen int8) bool { return m.received < gen }

// readRow returns what Store.CodeState reads of the row for message i.
func (w *modelState) readRow(i int) identityRow {
	m := &w.messages[i]
	return identityRow{
		gen:               w.gen,
		live:              w.hasCode && w.used == 0 && !w.revoked && m.inTime(w.gen),
		verified:          w.verified,
		redeemedByMessage: w.used == int8(i+1) && w.verified,
		awaitsOwner:       w.awaitsOwner(m.lapsed),
	}
}

// check models CodeStore.Check: missing, stale, then the comparison. The stored hash includes the
// generation, so a code matches only its own generation.
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

// recordGrant records that the code of message i verified the identity.
func (w *modelState) recordGrant(i int) {
	m := &w.messages[i]
	w.grants[m.code]++
	w.invalid[m.code] = true
	m.reply = granted
}

// shouldBeGranted reports whether message i must be granted now.
func (w *modelState) shouldBeGranted(i int) bool {
	m := &w.messages[i]
	return m.code > 0 && m.inTime(m.code) && !w.invalid[m.code] && !w.asked[m.code] && !w.verified
}

// invalidateOlder marks every code older than gen as invalid.
func (w *modelState) invalidateOlder(gen int8) {
	for n := int8(1); n < gen; n++ {
		w.invalid[n] = true
	}
}

// issuedCodes returns the number of calls of IssueCode.
func (w *modelState) issuedCodes() (n int) {
	for _, i := range w.issues {
		if i != notStarted {
			n++
		}
	}
	return n
}

// A violation is something that must never happen.
type violation string

const (
	grantedTwice         violation = "granted twice"
	grantedAfterReissue  violation = "granted after a completed re-issue"
	grantedAfterExpiry   violation = "granted for a message received after expiry"
	validCodeDeclined    violation = "a valid code, typed in time, declined"
	grantedAfterUnverify violation = "granted after the verification was revoked"
	grantedWithoutOwner  violation = "granted although an owner must confirm, and did not"
	grantedAfterRefusal  violation = "granted after an owner refused"
	grantedAfterLapse    violation = "granted by an answer received after the request lapsed"
	validAnswerLost      violation = "an owner agreed in time, and nothing was granted"
	refusalLost          violation = "an owner refused in time, and the claim still waits"
)

// violations returns the violations in the step of message i from before to w.
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
	if w.needsOwner && w.verified && !before.verified {
		ws = append(ws, grantedWithoutOwner)
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
	}{
		{w.hasCode, "has code"},
		{w.used > 0, fmt.Sprintf("used by %d", w.used)},
		{w.revoked, "revoked"},
		{w.verified, "verified"},
	} {
		if f.is {
			b.WriteString(", " + f.name)
		}
	}
	for i, q := range w.requests {
		if q.gen > 0 {
			fmt.Fprintf(&b, ", request %d of generation %d %s", i+1, q.gen, requestNames[q.status])
		}
	}
	fmt.Fprintf(&b, "; redis: %d (replica %d); expired to %d", w.redis, w.replica, w.expired)
	return b.String()
}
