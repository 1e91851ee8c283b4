package modeltest

// A claim may wait for an owner of the customer: the code is used, and nothing is granted until an owner
// agrees. The model has up to two answers of owners. Each names a request and agrees or refuses.
const modelAnswers = 2

// A modelRequest is a row of claim_requests.
type modelRequest struct {
	gen    int8 // claim_gen; 0 if there is no request
	status requestStatus
	lapsed bool // past expires_at
}

type requestStatus int8

const (
	unanswered requestStatus = iota
	agreed
	refused
)

var requestNames = [...]string{"waits", "agreed to", "refused"}

// A requestSet is a set of requests, one bit for each.
type requestSet int8

func (r requestSet) contains(i int) bool { return r&(1<<i) != 0 }

// A modelAnswer is the message of an owner, and the state of the worker that processes it.
type modelAnswer struct {
	request   int8       // number of the message whose request it names; 0 if not typed yet
	agrees    bool       // or refuses
	lapsed    requestSet // requests that had lapsed when it was stored
	stepIndex int8
}

// ask makes the claim of message i wait for an owner.
func (w *modelState) ask(i int) {
	m := &w.messages[i]
	m.reply = awaitingOwner
	w.requests[i] = modelRequest{gen: w.gen}
	w.asked[m.code] = true
}

// waiting reports whether the request of message i waits, and nothing has happened to the identity since.
func (w *modelState) waiting(i int) bool {
	q := w.requests[i]
	return q.gen > 0 && q.status == unanswered && q.gen == w.gen && w.used == int8(i+1) && !w.revoked && !w.verified
}

// waits reports whether any request waits.
func (w *modelState) waits() bool {
	for i := range w.requests {
		if w.waiting(i) {
			return true
		}
	}
	return false
}

// awaitsOwner returns what Store.CodeState reads for a message before which some requests had lapsed.
func (w *modelState) awaitsOwner(lapsed requestSet) bool {
	for i, q := range w.requests {
		if q.gen > 0 && q.gen == w.gen && q.status == unanswered && !lapsed.contains(i) && !w.verified {
			return true
		}
	}
	return false
}

// lapsedRequests returns the requests that have lapsed.
func (w *modelState) lapsedRequests() (lapsed requestSet) {
	for i, q := range w.requests {
		if q.lapsed {
			lapsed |= 1 << i
		}
	}
	return lapsed
}

// answerSteps are the steps of a worker for the answer of an owner.
var answerSteps = []modelStep{
	{"requests", func(w *modelState, k int) nextStep {
		// Service.DecideAnswer reads the requests that waited when the answer was received.
		a := w.answers[k]
		i := int(a.request - 1)
		if !w.waiting(i) || a.lapsed.contains(i) {
			return finish // a wrong number, or an ordinary message
		}
		return advance
	}},
	{"answer", func(w *modelState, k int) nextStep {
		// The store commits in one transaction. If the request no longer waits, the update violates a
		// check constraint, and the worker processes the message again.
		a := w.answers[k]
		i := int(a.request - 1)
		if !w.waiting(i) || a.lapsed.contains(i) {
			return 0
		}
		w.answer(i, a.agrees)
		return finish
	}},
}

// answer stores the answer to the request of message i.
func (w *modelState) answer(i int, agrees bool) {
	if !agrees {
		w.requests[i].status = refused
		return
	}
	w.requests[i].status = agreed
	w.verified = true
	w.grants[w.messages[i].code]++
}

// answerWithoutFence is implementedProtocol, except that the answer is stored whatever the row says.
var answerWithoutFence = protocol{
	name: "read requests, answer whatever the row says", fenced: true, steps: implementedProtocol.steps,
	answerSteps: replaceStep(answerSteps, "answer", func(w *modelState, k int) nextStep {
		w.answer(int(w.answers[k].request-1), w.answers[k].agrees)
		return finish
	}),
}

// answerByCommitTime is implementedProtocol, except that a request lapses when the answer is processed, not
// when it is received.
var answerByCommitTime = protocol{
	name: "check the time when the answer is committed", fenced: true, steps: implementedProtocol.steps,
	answerSteps: replaceStep(answerSteps, "answer", func(w *modelState, k int) nextStep {
		i := int(w.answers[k].request - 1)
		if !w.waiting(i) || w.requests[i].lapsed {
			return finish
		}
		w.answer(i, w.answers[k].agrees)
		return finish
	}),
}

// grantWhileAsking is implementedProtocol, except that the claim is granted when the owner is asked.
var grantWhileAsking = protocol{
	name: "ask, and grant", fenced: true, answerSteps: answerSteps,
	steps: replaceStep(implementedProtocol.steps, "commit", func(w *modelState, i int) nextStep {
		next := implementedProtocol.steps[3].run(w, i)
		if next == advance && w.waiting(i) {
			w.verified = true
			w.grants[w.messages[i].code]++
		}
		return next
	}),
}

// expandOwners adds the states after an owner answers a request, after the next step of each answer, and
// after a request lapses.
func (s *stateSearch) expandOwners(from *modelState) {
	for i, q := range from.requests {
		if q.gen == 0 {
			continue
		}
		if !q.lapsed {
			w := *from
			w.requests[i].lapsed = true
			s.visit(from, &w, "the request of message %d lapses", i+1)
		}
		for k := range min(s.bounds.answers, modelAnswers) {
			if from.answers[k].request != 0 || k > 0 && from.answers[k-1].request == 0 {
				continue
			}
			for _, agrees := range []bool{true, false} {
				w := *from
				w.answers[k] = modelAnswer{request: int8(i + 1), agrees: agrees, lapsed: w.lapsedRequests()}
				s.visit(from, &w, "answer %d to the request of message %d is stored: %v", k+1, i+1, agrees)
			}
		}
	}
	for k, a := range from.answers {
		if a.request == 0 || int(a.stepIndex) == len(s.protocol.answerSteps) {
			continue
		}
		w := *from
		step := s.protocol.answerSteps[a.stepIndex]
		w.answers[k].stepIndex = step.run(&w, k).after(a.stepIndex, len(s.protocol.answerSteps))
		s.visit(from, &w, "answer %d: %s", k+1, step.name)
		for _, wr := range s.answerViolations(from, &w, k) {
			if _, known := s.violations[wr]; !known {
				s.violations[wr] = w
			}
		}
	}
}

// answerViolations returns the violations in a step of answer k from before to w.
func (s *stateSearch) answerViolations(before, w *modelState, k int) (ws []violation) {
	a := w.answers[k]
	i := int(a.request - 1)
	q, code := before.requests[i], before.messages[i].code
	if n := w.grants[code]; n > before.grants[code] {
		for _, v := range []struct {
			violation
			is bool
		}{
			{grantedTwice, n > 1},
			{grantedAfterReissue, before.replaced[code]},
			{grantedAfterUnverify, before.invalid[code] && !before.replaced[code]},
			{grantedAfterRefusal, q.status == refused},
			{grantedAfterLapse, a.lapsed.contains(i)},
			{grantedWithoutOwner, !a.agrees},
		} {
			if v.is {
				ws = append(ws, v.violation)
			}
		}
		return ws
	}
	ended := int(a.stepIndex) == len(s.protocol.answerSteps)
	if ended && before.waiting(i) && !before.invalid[code] && !a.lapsed.contains(i) {
		switch {
		case a.agrees:
			ws = append(ws, validAnswerLost)
		case w.waiting(i):
			ws = append(ws, refusalLost)
		}
	}
	return ws
}

// stopAnswer stops the worker of answer k and reports whether it was processing. It starts again.
func (s *stateSearch) stopAnswer(w *modelState, k int) bool {
	a := &w.answers[k]
	if a.stepIndex == 0 || int(a.stepIndex) == len(s.protocol.answerSteps) {
		return false
	}
	s.interruptedSteps[s.protocol.answerSteps[a.stepIndex].name] = true
	a.stepIndex = 0
	return true
}

// stopAnswers adds the states after the worker of an answer stops.
func (s *stateSearch) stopAnswers(from *modelState) {
	for k := range from.answers {
		w := *from
		if s.stopAnswer(&w, k) {
			w.crashes++
			s.visit(from, &w, "the worker of answer %d stops", k+1)
		}
	}
}
