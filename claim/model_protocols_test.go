package claim

// An protocol is a way to do it: what a press of "Generate code" does, what a worker
// does with a message step by step, and what taking back a verification does.
type protocol struct {
	name string

	// fenced: the row counts generations, as Store.Issue and Store.EditIdentity do.
	// Without it Redis alone knows which code is good, and its time to live is the
	// expiry.
	fenced bool

	steps []modelStep
}

// A modelStep is one thing that a worker does and that is done whole or not at all. It
// moves the message on to the next step unless it says otherwise.
type modelStep struct {
	name string
	run  func(w *modelState, i int) nextStep
}

// nextStep says where the worker goes from here: on, to the end, or to a step.
type nextStep int8

const (
	advance nextStep = -1
	finish  nextStep = -2
)

// implementedProtocol is ours. Each step stands for one call of Desk.Rule and Worker.settle.
var implementedProtocol = protocol{name: "check, fence, lost", fenced: true, steps: []modelStep{
	{"state", func(w *modelState, i int) nextStep {
		// Desk.Rule: s, err := d.Ledger.State(ctx, a), and the cases below it that
		// need no proof; Worker.settle stores their answers (the last step here).
		m := &w.messages[i]
		m.lastRow, m.result = w.readRow(i), vNone
		switch {
		case m.lastRow.redeemedByMessage, m.lastRow.verified:
			return 3
		}
		return advance
	}},
	{"check", func(w *modelState, i int) nextStep {
		// Desk.Rule: f, err := d.Proofs.Check(…). It consumes nothing.
		m := &w.messages[i]
		m.result = w.check(i)
		if m.result == vMissing || m.result == vStale {
			return advance
		}
		return 3
	}},
	{"state again", func(w *modelState, i int) nextStep {
		// Desk.Rule: again, err := d.Ledger.State(ctx, a), and begin anew when
		// somebody issued or redeemed between the two looks.
		m := &w.messages[i]
		again := w.readRow(i)
		if again.gen != m.lastRow.gen || again.verified != m.lastRow.verified {
			m.lastRow, m.result = identityRow{}, vNone
			return 0
		}
		m.lastRow = again
		return advance
	}},
	{"settle", func(w *modelState, i int) nextStep {
		// State.rule decides; Store.Settle runs claimStmts with holdStmt in one batch.
		// The update that grants writes claim_gen = -1 when the fence does not hold;
		// the check of the table undoes the batch, Settle gives ErrFenced, and
		// Worker.settle works the message anew.
		m := &w.messages[i]
		switch {
		case m.lastRow.redeemedByMessage:
			m.reply = granted // told again; nothing is granted
		case m.lastRow.verified:
			m.reply = alreadyVerified
		case m.result == vMatch && m.lastRow.live:
			if w.gen != m.lastRow.gen || w.verified || w.used != 0 || w.revoked || !w.hasCode || !m.inTime(w.gen) {
				m.lastRow, m.result = identityRow{}, vNone
				return 0
			}
			w.used, w.verified = int8(i+1), true
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
		// Desk.Forget: d.Proofs.Drop(ctx, *r.Grant), if it is of that generation.
		if w.redis == w.messages[i].lastRow.gen {
			w.redis = 0
		}
		return finish
	}},
}}

// lostAsWrong is the same without the last word: a proof that is gone counts as wrong.
var lostAsWrong = protocol{name: "check, fence", fenced: true, steps: replaceStep(implementedProtocol.steps, "settle", func(w *modelState, i int) nextStep {
	m := &w.messages[i]
	if (m.result == vMissing || m.result == vStale) && !m.lastRow.redeemedByMessage && !m.lastRow.verified {
		m.reply = declined
		return finish
	}
	return implementedProtocol.steps[3].run(w, i)
})}

// grantWithoutFence is ours with a settlement that grants without looking at the row again.
var grantWithoutFence = protocol{name: "check, grant whatever the row says", fenced: true, steps: replaceStep(implementedProtocol.steps, "settle", func(w *modelState, i int) nextStep {
	m := &w.messages[i]
	if m.result == vMatch && m.lastRow.live && !m.lastRow.redeemedByMessage && !m.lastRow.verified {
		w.used, w.verified = int8(i+1), true
		w.recordGrant(i)
		return advance
	}
	return implementedProtocol.steps[3].run(w, i)
})}

// deleteThenGrant is the first idea everybody has: GETDEL the code, then UPDATE.
var deleteThenGrant = protocol{name: "GETDEL, UPDATE", steps: []modelStep{
	{"look whether verified", skipVerified},
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

// grantThenDelete looks, grants where nobody is verified, and deletes.
var grantThenDelete = protocol{name: "GET, UPDATE WHERE NOT verified, DEL", steps: []modelStep{
	{"look whether verified", skipVerified},
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

// reserveThenGrant reserves the code in Redis for one message, grants, and deletes.
// The same message may take its own reservation up again.
var reserveThenGrant = protocol{name: "reserve, UPDATE WHERE NOT verified, DEL", steps: []modelStep{
	{"look whether verified", skipVerified},
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

// replaceStep gives steps with another deed for one of them.
func replaceStep(steps []modelStep, name string, do func(*modelState, int) nextStep) []modelStep {
	changed := append([]modelStep(nil), steps...)
	for i := range changed {
		if changed[i].name == name {
			changed[i].run = do
		}
	}
	return changed
}
