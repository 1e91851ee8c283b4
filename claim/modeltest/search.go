// Package modeltest checks the protocol that redeems claim codes: it explores every reachable state
// of a model of one identity, the database, Redis and processes that may stop at any point. It
// models package claim and does not call it.
package modeltest

import (
	"fmt"
	"slices"
	"strings"
)

// bounds limits how often each kind of event occurs in the model.
type bounds struct {
	messages, crashes, failovers, expiries, unverifications, revocations int8

	answers int8 // of an owner; if there are any, claims wait for them
}

// A stateSearch explores the states of a protocol breadth-first, so that its traces are the
// shortest ones.
type stateSearch struct {
	protocol         protocol
	bounds           bounds
	origins          map[modelState]origin
	frontier         []modelState
	violations       map[violation]modelState
	interruptedSteps map[string]bool // steps that a crash has interrupted
}

type origin struct {
	from  modelState
	event string
}

func newSearch(o protocol, b bounds) *stateSearch {
	start := modelState{needsOwner: b.answers > 0}
	return &stateSearch{
		protocol:         o,
		bounds:           b,
		origins:          map[modelState]origin{start: {}},
		frontier:         []modelState{start},
		violations:       map[violation]modelState{},
		interruptedSteps: map[string]bool{},
	}
}

// run explores all reachable states, or stops once the violation until is found.
func (s *stateSearch) run(until *violation) {
	for len(s.frontier) > 0 {
		if until != nil {
			if _, found := s.violations[*until]; found {
				return
			}
		}
		front := s.frontier
		s.frontier = nil
		for i := range front {
			s.expandStaff(&front[i])
			s.expandSenders(&front[i])
			s.expandOwners(&front[i])
			s.expandWorkers(&front[i])
			s.injectFaults(&front[i])
		}
	}
}

// visit adds a state that an event leads to.
func (s *stateSearch) visit(from, to *modelState, event string, args ...any) {
	if _, known := s.origins[*to]; known {
		return
	}
	if len(args) > 0 {
		event = fmt.Sprintf(event, args...)
	}
	s.origins[*to] = origin{*from, event}
	s.frontier = append(s.frontier, *to)
}

// expandStaff adds the states after staff request a code, possibly twice concurrently, or revoke a
// verification.
func (s *stateSearch) expandStaff(from *modelState) {
	// I1: Store.IssueCode increments the generation and clears used and revoked, unless the
	// identity is verified.
	if from.issuedCodes() < modelCodes && from.gen < modelGens && !from.verified {
		w := *from
		w.gen++
		if s.protocol.fenced {
			w.hasCode, w.used, w.revoked = true, 0, false
			w.invalidateOlder(w.gen) // the commit ends the previous code
		}
		w.issues[w.gen] = genIncremented
		s.visit(from, &w, "staff request a code: generation %d", w.gen)
	}
	for g := int8(1); g <= modelGens; g++ {
		switch from.issues[g] {
		case genIncremented: // I2: CodeStore.Put stores the code unless one of the same or a newer generation is stored.
			w := *from
			w.issues[g] = codeStored
			if w.redis < g || !s.protocol.fenced {
				w.redis, w.reservedBy = g, 0
			}
			if !s.protocol.fenced { // Redis alone decides, so this ends the previous code
				w.invalidateOthers(g)
			}
			s.visit(from, &w, "code %d is stored", g)
		case codeStored: // I3
			w := *from
			w.issues[g] = codeReturned
			for n := int8(1); n < g; n++ {
				w.replaced[n] = w.issues[n] != notStarted || w.replaced[n]
			}
			s.visit(from, &w, "code %d is read out", g)
		}
	}
	// Store.EditIdentity with verified=false: the next generation, without a code. It also ends a claim
	// that waits for an owner.
	if (from.verified || from.waits()) && from.unverifications < s.bounds.unverifications {
		w := *from
		w.verified = false
		w.unverifications++
		if s.protocol.fenced && w.gen < modelGens {
			w.gen++
			w.hasCode, w.used = false, 0
		} else if s.protocol.fenced {
			return // out of generations
		}
		for n := range w.invalid {
			w.invalid[n] = w.invalid[n] || w.issues[n] != notStarted
		}
		s.visit(from, &w, "staff revoke the verification")
	}
}

// invalidateOthers marks every code but that of gen as invalid.
func (w *modelState) invalidateOthers(gen int8) {
	for n := range w.invalid {
		w.invalid[n] = w.invalid[n] || int8(n) != gen && w.issues[n] != notStarted
	}
}

// expandSenders adds the states after a sender types a code that staff read out, or a stranger
// types a live code.
func (s *stateSearch) expandSenders(from *modelState) {
	for i := range from.messages {
		if from.messages[i].code != 0 || i >= int(s.bounds.messages) || i > 0 && from.messages[i-1].code == 0 {
			continue
		}
		for g := int8(1); g <= modelGens; g++ {
			if from.issues[g] != codeReturned {
				continue
			}
			// R0: Store.InsertMessages; received_at is the database's time.
			w := *from
			w.messages[i].code, w.messages[i].received, w.messages[i].lapsed = g, w.expired, w.lapsedRequests()
			s.visit(from, &w, "message %d with code %d is stored", i+1, g)
		}
	}
	// Decision.Revoke: claim_revoked_at is set, unless the code is used.
	if s.protocol.fenced && from.revocations < s.bounds.revocations && from.hasCode && from.used == 0 && !from.revoked {
		w := *from
		w.revocations++
		w.revoked = true
		w.invalid[w.gen] = true
		s.visit(from, &w, "a stranger typed code %d: it is revoked", w.gen)
	}
}

// expandWorkers adds the states after the next step of each message. A lease lets only one worker
// complete a message, so one worker per message is enough. Messages of several conversations are
// processed concurrently.
func (s *stateSearch) expandWorkers(from *modelState) {
	for i := range from.messages {
		m := from.messages[i]
		if m.code == 0 || int(m.stepIndex) == len(s.protocol.steps) {
			continue
		}
		w := *from
		step := s.protocol.steps[m.stepIndex]
		w.messages[i].stepIndex = step.run(&w, i).after(m.stepIndex, len(s.protocol.steps))
		now := &w.messages[i]
		if int(now.stepIndex) == len(s.protocol.steps) {
			now.lastRow, now.result = identityRow{}, vNone // no longer relevant; fewer states to distinguish
		}
		s.visit(from, &w, "message %d: %s", i+1, step.name)
		for _, wr := range w.violations(from, i) {
			if _, known := s.violations[wr]; !known {
				s.violations[wr] = w
			}
		}
	}
}

// injectFaults adds the states after crashes, expiries and failovers of Redis.
func (s *stateSearch) injectFaults(from *modelState) {
	if from.crashes < s.bounds.crashes {
		for i := range from.messages {
			w := *from
			if s.stopWorker(&w, i) {
				w.crashes++
				s.visit(from, &w, "the worker of message %d stops", i+1)
			}
		}
		for g, is := range from.issues {
			if is == genIncremented || is == codeStored {
				w := *from
				w.issues[g] = abandoned
				w.crashes++
				s.visit(from, &w, "issuing code %d stops", g)
			}
		}
		s.stopAnswers(from)
		s.stopProcess(from)
	}
	if s.canExpire(from) {
		w := *from
		w.expired++
		if !s.protocol.fenced && w.redis == w.expired { // the time to live is the expiry
			w.redis, w.reservedBy = 0, 0
		}
		s.visit(from, &w, "code %d expires", w.expired)
	}
	if s.protocol.fenced && from.redis > 0 && from.redis <= from.expired {
		w := *from
		w.redis = 0
		s.visit(from, &w, "redis drops code %d at the end of its grace period", from.redis)
	}
	if s.bounds.failovers == 0 {
		return
	}
	if from.replica != from.redis {
		w := *from
		w.replica = w.redis
		s.visit(from, &w, "the replica of redis catches up")
	}
	if from.failovers < s.bounds.failovers {
		for _, to := range []int8{from.replica, 0} {
			if to == from.redis && from.reservedBy == 0 {
				continue
			}
			w := *from
			w.failovers++
			w.redis, w.reservedBy = to, 0
			s.visit(from, &w, "redis rolls back from code %d to %d", from.redis, to)
		}
	}
}

// canExpire reports whether the oldest code that has not expired can expire: its lifetime begins
// with the commit of the row, or without a fence when it is stored in Redis.
func (s *stateSearch) canExpire(w *modelState) bool {
	if w.expired >= w.gen || w.expired >= s.bounds.expiries {
		return false
	}
	return s.protocol.fenced || w.issues[w.expired+1] >= codeStored
}

// stopWorker stops the worker of message i and reports whether it was processing. Committed
// changes remain; everything else starts again.
func (s *stateSearch) stopWorker(w *modelState, i int) bool {
	m := &w.messages[i]
	if m.stepIndex == 0 || int(m.stepIndex) == len(s.protocol.steps) {
		return false
	}
	s.interruptedSteps[s.protocol.steps[m.stepIndex].name] = true
	m.lastRow, m.result = identityRow{}, vNone
	if m.reply != noReply {
		m.stepIndex = int8(len(s.protocol.steps)) // the reply was committed with the message
		return true
	}
	m.stepIndex = 0
	return true
}

// stopProcess stops all workers and issuing calls.
func (s *stateSearch) stopProcess(from *modelState) {
	w := *from
	n := 0
	for i := range w.messages {
		if s.stopWorker(&w, i) {
			n++
		}
	}
	for g, is := range w.issues {
		if is == genIncremented || is == codeStored {
			w.issues[g] = abandoned
			n++
		}
	}
	for k := range w.answers {
		if s.stopAnswer(&w, k) {
			n++
		}
	}
	if n > 1 {
		w.crashes++
		s.visit(from, &w, "the process stops")
	}
}

// uninterruptedSteps returns the steps that no crash interrupted. The first step has nothing to
// lose.
func (s *stateSearch) uninterruptedSteps() (names []string) {
	steps := s.protocol.steps[1:]
	if s.bounds.answers > 0 {
		steps = slices.Concat(steps, s.protocol.answerSteps[1:])
	}
	for _, st := range steps {
		if !s.interruptedSteps[st.name] {
			names = append(names, st.name)
		}
	}
	return names
}

// trace returns the shortest sequence of events that leads to w.
func (s *stateSearch) trace(w modelState) string {
	var lines []string
	for {
		o := s.origins[w]
		if o.event == "" {
			break
		}
		lines = append(lines, fmt.Sprintf("  %-58s %s", o.event, w))
		w = o.from
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}
