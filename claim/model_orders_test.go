package claim

// An order is a way to do it: what a press of "Generate code" does, what a worker
// does with a message step by step, and what taking back a verification does.
type order struct {
	name string

	// fenced: the row counts generations, as Store.Issue and Store.EditIdentity do.
	// Without it Redis alone knows which code is good, and its time to live is the
	// expiry.
	fenced bool

	redeem []step
}

// A step is one thing that a worker does and that is done whole or not at all. It
// moves the message on to the next step unless it says otherwise.
type step struct {
	name string
	do   func(w *world, i int) next
}

// next says where the worker goes from here: on, to the end, or to a step.
type next int8

const (
	on  next = -1
	end next = -2
)

// checkFenceLost is ours. Each step stands for one call of Desk.Rule and Worker.settle.
var checkFenceLost = order{name: "check, fence, lost", fenced: true, redeem: []step{
	{"state", func(w *world, i int) next {
		// Desk.Rule: s, err := d.Ledger.State(ctx, a), and the cases below it that
		// need no proof; Worker.settle stores their answers (the last step here).
		m := &w.messages[i]
		m.seen, m.found = w.read(i), vNone
		switch {
		case m.seen.mine, m.seen.verified:
			return 3
		}
		return on
	}},
	{"check", func(w *world, i int) next {
		// Desk.Rule: f, err := d.Proofs.Check(…). It consumes nothing.
		m := &w.messages[i]
		m.found = w.check(i)
		if m.found == vMissing || m.found == vStale {
			return on
		}
		return 3
	}},
	{"state again", func(w *world, i int) next {
		// Desk.Rule: again, err := d.Ledger.State(ctx, a), and begin anew when
		// somebody issued or redeemed between the two looks.
		m := &w.messages[i]
		again := w.read(i)
		if again.gen != m.seen.gen || again.verified != m.seen.verified {
			m.seen, m.found = row{}, vNone
			return 0
		}
		m.seen = again
		return on
	}},
	{"settle", func(w *world, i int) next {
		// State.rule decides; Store.Settle runs claimStmts with holdStmt in one batch.
		// The update that grants writes claim_gen = -1 when the fence does not hold;
		// the check of the table undoes the batch, Settle gives ErrFenced, and
		// Worker.settle works the message anew.
		m := &w.messages[i]
		switch {
		case m.seen.mine:
			m.answer = granted // told again; nothing is granted
		case m.seen.verified:
			m.answer = already
		case m.found == vMatch && m.seen.live:
			if w.gen != m.seen.gen || w.verified || w.used != 0 || w.revoked || !w.coded || !m.inTime(w.gen) {
				m.seen, m.found = row{}, vNone
				return 0
			}
			w.used, w.verified = int8(i+1), true
			w.grant(i)
			return on
		case (m.found == vMissing || m.found == vStale) && m.seen.live:
			m.answer = lost
		default:
			m.answer = declined
		}
		return end
	}},
	{"drop", func(w *world, i int) next {
		// Desk.Forget: d.Proofs.Drop(ctx, *r.Grant), if it is of that generation.
		if w.redis == w.messages[i].seen.gen {
			w.redis = 0
		}
		return end
	}},
}}

// checkFence is the same without the last word: a proof that is gone counts as wrong.
var checkFence = order{name: "check, fence", fenced: true, redeem: replace(checkFenceLost.redeem, "settle", func(w *world, i int) next {
	m := &w.messages[i]
	if (m.found == vMissing || m.found == vStale) && !m.seen.mine && !m.seen.verified {
		m.answer = declined
		return end
	}
	return checkFenceLost.redeem[3].do(w, i)
})}

// unfenced is ours with a settlement that grants without looking at the row again.
var unfenced = order{name: "check, grant whatever the row says", fenced: true, redeem: replace(checkFenceLost.redeem, "settle", func(w *world, i int) next {
	m := &w.messages[i]
	if m.found == vMatch && m.seen.live && !m.seen.mine && !m.seen.verified {
		w.used, w.verified = int8(i+1), true
		w.grant(i)
		return on
	}
	return checkFenceLost.redeem[3].do(w, i)
})}

// takeThenGrant is the first idea everybody has: GETDEL the code, then UPDATE.
var takeThenGrant = order{name: "GETDEL, UPDATE", redeem: []step{
	{"look whether verified", skipVerified},
	{"getdel", func(w *world, i int) next {
		m := &w.messages[i]
		if w.redis == 0 || w.redis != m.code {
			m.answer = declined
			return end
		}
		w.redis = 0
		return on
	}},
	{"update verified", func(w *world, i int) next {
		w.verified = true
		w.grant(i)
		return end
	}},
}}

// grantThenDelete looks, grants where nobody is verified, and deletes.
var grantThenDelete = order{name: "GET, UPDATE WHERE NOT verified, DEL", redeem: []step{
	{"look whether verified", skipVerified},
	{"get", func(w *world, i int) next {
		m := &w.messages[i]
		if w.redis == 0 || w.redis != m.code {
			m.answer = declined
			return end
		}
		return on
	}},
	{"update where not verified", updateUnverified},
	{"del", func(w *world, i int) next {
		w.redis = 0
		return end
	}},
}}

// reserveThenGrant reserves the code in Redis for one message, grants, and deletes.
// The same message may take its own reservation up again.
var reserveThenGrant = order{name: "reserve, UPDATE WHERE NOT verified, DEL", redeem: []step{
	{"look whether verified", skipVerified},
	{"reserve", func(w *world, i int) next {
		m := &w.messages[i]
		if w.redis == 0 || w.redis != m.code || w.owner != 0 && w.owner != int8(i+1) {
			m.answer = declined
			return end
		}
		w.owner = int8(i + 1)
		return on
	}},
	{"update where not verified", updateUnverified},
	{"del", func(w *world, i int) next {
		w.redis, w.owner = 0, 0
		return end
	}},
}}

func skipVerified(w *world, i int) next {
	if w.verified {
		w.messages[i].answer = already
		return end
	}
	return on
}

func updateUnverified(w *world, i int) next {
	if w.verified {
		w.messages[i].answer = already
		return on
	}
	w.verified = true
	w.grant(i)
	return on
}

// replace gives steps with another deed for one of them.
func replace(steps []step, name string, do func(*world, int) next) []step {
	changed := append([]step(nil), steps...)
	for i := range changed {
		if changed[i].name == name {
			changed[i].do = do
		}
	}
	return changed
}
