package modeltest

// A protocol describes how codes are issued and redeemed: the steps of a worker for a message, and
// whether the database counts generations.
type protocol struct {
	name string

	// fenced reports whether the row counts generations, as Store.IssueCode and
	// Store.EditIdentity do. Otherwise only Redis knows which code is valid, and its TTL is the
	// expiry.
	fenced bool

	steps []modelStep

	answerSteps []modelStep // of a worker for the answer of an owner
}

// A modelStep is an atomic step of a worker. The message advances to the next step unless run
// returns another.
type modelStep struct {
	name string
	run  func(w *modelState, i int) nextStep
}

// nextStep is the index of the next step, or one of the constants below.
type nextStep int8

const (
	advance nextStep = -1
	finish  nextStep = -2
)

// after returns the index of the step that follows the one at index i of n steps.
func (s nextStep) after(i int8, n int) int8 {
	switch s {
	case advance:
		return i + 1
	case finish:
		return int8(n)
	}
	return int8(s)
}

// implementedProtocol is the protocol of this program. Each step is one call made by
// Service.DecideRedemption or by the worker.
var implementedProtocol = protocol{
	name:        "check, fence, lost",
	fenced:      true,
	answerSteps: answerSteps,
	steps: []modelStep{
		{"state", func(w *modelState, i int) nextStep {
			// DecideRedemption reads the state, and decides the cases that need no comparison.
			// The commit step stores their replies.
			m := &w.messages[i]
			m.lastRow, m.result = w.readRow(i), vNone
			switch {
			case m.lastRow.awaitsOwner, m.lastRow.redeemedByMessage, m.lastRow.verified:
				return 3
			}
			return advance
		}},
		{"check", func(w *modelState, i int) nextStep {
			// DecideRedemption calls CodeStore.Check, which consumes nothing.
			m := &w.messages[i]
			m.result = w.check(i)
			if m.result == vMissing || m.result == vStale {
				return advance
			}
			return 3
		}},
		{"state again", func(w *modelState, i int) nextStep {
			// DecideRedemption reads the state again, and starts over if a code was issued or
			// redeemed in between.
			m := &w.messages[i]
			again := w.readRow(i)
			if again.gen != m.lastRow.gen || again.verified != m.lastRow.verified {
				m.lastRow, m.result = identityRow{}, vNone
				return 0
			}
			m.lastRow = again
			return advance
		}},
		{"commit", func(w *modelState, i int) nextStep {
			// CodeState.decide decides, and the store commits in one transaction. If the row has
			// changed, the granting update violates a check constraint, which rolls back the
			// transaction, and the worker processes the message again.
			m := &w.messages[i]
			switch {
			case m.lastRow.awaitsOwner:
				m.reply = awaitingOwner
			case m.lastRow.redeemedByMessage:
				m.reply = granted // reply again; nothing is granted
			case m.lastRow.verified:
				m.reply = alreadyVerified
			case m.result == vMatch && m.lastRow.live:
				if w.gen != m.lastRow.gen || w.verified || w.used != 0 || w.revoked || !w.hasCode || !m.inTime(w.gen) {
					m.lastRow, m.result = identityRow{}, vNone
					return 0
				}
				w.used = int8(i + 1)
				if w.needsOwner {
					w.ask(i)
					return advance
				}
				w.verified = true
				w.recordGrant(i)
				return advance
			case (m.result == vMissing || m.result == vStale) && m.lastRow.live:
				m.reply = codeLost
			default:
				m.reply = declined
			}
			return finish
		}},
		{"drop", func(w *modelState, i int) nextStep {
			// Service.DropCodes deletes the code if it is of that generation.
			if w.redis == w.messages[i].lastRow.gen {
				w.redis = 0
			}
			return finish
		}},
	},
}

// lostAsWrong is implementedProtocol, except that a missing code counts as wrong.
var lostAsWrong = protocol{
	name:   "check, fence",
	fenced: true,
	steps: replaceStep(implementedProtocol.steps, "commit", func(w *modelState, i int) nextStep {
		m := &w.messages[i]
		if (m.result == vMissing || m.result == vStale) && !m.lastRow.redeemedByMessage && !m.lastRow.verified {
			m.reply = declined
			return finish
		}
		return implementedProtocol.steps[3].run(w, i)
	}),
}

// grantWithoutFence is implementedProtocol, except that the commit grants without checking the
// row.
var grantWithoutFence = protocol{
	name:   "check, grant whatever the row says",
	fenced: true,
	steps: replaceStep(implementedProtocol.steps, "commit", func(w *modelState, i int) nextStep {
		m := &w.messages[i]
		if m.result == vMatch && m.lastRow.live && !m.lastRow.redeemedByMessage && !m.lastRow.verified {
			w.used, w.verified = int8(i+1), true
			w.recordGrant(i)
			return advance
		}
		return implementedProtocol.steps[3].run(w, i)
	}),
}

// deleteThenGrant deletes the code from Redis, then updates the database.
var deleteThenGrant = protocol{name: "GETDEL, UPDATE", steps: []modelStep{
	{"read whether verified", skipVerified},
	{"getdel", func(w *modelState, i int) nextStep {
		m := &w.messages[i]
		if w.redis == 0 || w.redis != m.code {
			m.reply = declined
			return finish
		}
		w.redis = 0
		return advance
	}},
	{"update verified", func(w *modelState, i int) nextStep {
		w.verified = true
		w.recordGrant(i)
		return finish
	}},
}}

// grantThenDelete reads the code, updates the database if the identity is not verified, and
// deletes the code.
var grantThenDelete = protocol{name: "GET, UPDATE WHERE NOT verified, DEL", steps: []modelStep{
	{"read whether verified", skipVerified},
	{"get", func(w *modelState, i int) nextStep {
		m := &w.messages[i]
		if w.redis == 0 || w.redis != m.code {
			m.reply = declined
			return finish
		}
		return advance
	}},
	{"update where not verified", updateUnverified},
	{"del", func(w *modelState, i int) nextStep {
		w.redis = 0
		return finish
	}},
}}

// reserveThenGrant reserves the code in Redis for one message, updates the database, and deletes
// the code. A message may continue with its own reservation.
var reserveThenGrant = protocol{name: "reserve, UPDATE WHERE NOT verified, DEL", steps: []modelStep{
	{"read whether verified", skipVerified},
	{"reserve", func(w *modelState, i int) nextStep {
		m := &w.messages[i]
		if w.redis == 0 || w.redis != m.code || w.reservedBy != 0 && w.reservedBy != int8(i+1) {
			m.reply = declined
			return finish
		}
		w.reservedBy = int8(i + 1)
		return advance
	}},
	{"update where not verified", updateUnverified},
	{"del", func(w *modelState, i int) nextStep {
		w.redis, w.reservedBy = 0, 0
		return finish
	}},
}}

func skipVerified(w *modelState, i int) nextStep {
	if w.verified {
		w.messages[i].reply = alreadyVerified
		return finish
	}
	return advance
}

func updateUnverified(w *modelState, i int) nextStep {
	if w.verified {
		w.messages[i].reply = alreadyVerified
		return advance
	}
	w.verified = true
	w.recordGrant(i)
	return advance
}

// replaceStep returns steps with the function of the named step replaced.
func replaceStep(steps []modelStep, name string, run func(*modelState, int) nextStep) []modelStep {
	changed := append([]modelStep(nil), steps...)
	for i := range changed {
		if changed[i].name == name {
			changed[i].run = run
		}
	}
	return changed
}
