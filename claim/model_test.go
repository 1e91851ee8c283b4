package claim

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestEveryOrderOfEvents searches every state of ours that can be reached, with every
// crash, failover and expiry at every step, and finds no bad one. With
// HYDRAGATE_TEST_LONG=1 it goes farther.
func TestEveryOrderOfEvents(t *testing.T) {
	all := []struct {
		bounds bounds
		least  int // states
	}{
		{bounds{messages: 2, crashes: 3, failovers: 2, expiries: 1, takings: 1}, 400_000},
		{bounds{messages: 2, crashes: 1, expiries: 2, takings: 1, burns: 1}, 50_000},
		{bounds{messages: 3, crashes: 1, failovers: 1}, 200_000},
	}
	if os.Getenv("HYDRAGATE_TEST_LONG") == "1" {
		all = append(all, []struct {
			bounds bounds
			least  int
		}{
			{bounds{messages: 3, crashes: 3, failovers: 2, expiries: 1}, 5_000_000},
			{bounds{messages: 2, crashes: 3, failovers: 2, expiries: 2, takings: 1, burns: 1}, 3_000_000},
			{bounds{messages: 3, crashes: 1, expiries: 1, takings: 1, burns: 1}, 900_000},
		}...)
	}
	for _, tt := range all {
		s := newSearch(checkFenceLost, tt.bounds)
		s.run(nil)
		t.Logf("%d states within %+v", len(s.came), tt.bounds)
		if len(s.came) < tt.least {
			t.Errorf("only %d states; want %d or more", len(s.came), tt.least)
		}
		for w, where := range s.wrongs {
			t.Errorf("%s:\n%s", w, s.trace(where))
		}
		for _, step := range s.unreached() {
			t.Errorf("step %q was never cut off by a crash", step)
		}
	}
}

// TestSimplerOrdersFail holds that the search sees what is wrong with every order that
// seems simpler, and tells the shortest way there.
func TestSimplerOrdersFail(t *testing.T) {
	for _, tt := range []struct {
		order  order
		bounds bounds
		want   wrong
	}{
		{takeThenGrant, bounds{messages: 3, crashes: 1}, calledOff},
		{takeThenGrant, bounds{messages: 3, failovers: 1}, twice},
		{takeThenGrant, bounds{messages: 3}, afterNew},
		{takeThenGrant, bounds{messages: 3, failovers: 1, expiries: 1}, tooLate},
		{takeThenGrant, bounds{messages: 3, expiries: 1}, calledOff},
		{grantThenDelete, bounds{messages: 3, takings: 1}, twice},
		{grantThenDelete, bounds{messages: 3, crashes: 1, takings: 1}, twice},
		{grantThenDelete, bounds{messages: 3}, afterNew},
		{grantThenDelete, bounds{messages: 3, failovers: 1, expiries: 1}, tooLate},
		{grantThenDelete, bounds{messages: 3, failovers: 1}, calledOff},
		{reserveThenGrant, bounds{messages: 3, failovers: 1, takings: 1}, twice},
		{reserveThenGrant, bounds{messages: 3}, afterNew},
		{reserveThenGrant, bounds{messages: 3, failovers: 1, expiries: 1}, tooLate},
		{reserveThenGrant, bounds{messages: 3}, calledOff},
		{checkFence, bounds{messages: 3, failovers: 1}, calledOff},
		{unfenced, bounds{messages: 3}, twice},
		{unfenced, bounds{messages: 3}, afterNew},
		{unfenced, bounds{messages: 3, takings: 1}, afterTaken},
	} {
		s := newSearch(tt.order, tt.bounds)
		s.run(&tt.want)
		where, found := s.wrongs[tt.want]
		if !found {
			t.Errorf("the search does not see that %q has: %s (%d states)", tt.order.name, tt.want, len(s.came))
			continue
		}
		t.Logf("%s: %s\n%s", tt.order.name, tt.want, s.trace(where))
	}
}

// TestCodesWorkInTheModel holds that the search is not empty: in ours every message
// can be granted, and every answer is given somewhere.
func TestCodesWorkInTheModel(t *testing.T) {
	s := newSearch(checkFenceLost, bounds{messages: 3, failovers: 1})
	s.run(nil)
	for i := range modelMessages {
		for _, want := range []reply{granted, already, declined, lost} {
			found := false
			for w := range s.came {
				if w.messages[i].answer == want {
					found = true
					break
				}
			}
			if !found {
				t.Errorf("message %d is never answered %q", i+1, replies[want])
			}
		}
	}
}

// bounds say how often the rare things happen.
type bounds struct{ messages, crashes, failovers, expiries, takings, burns int8 }

// A search is the worlds reached so far, each with how it was reached first, so that
// traces are the shortest there are.
type search struct {
	order  order
	bounds bounds
	came   map[world]origin
	front  []world
	wrongs map[wrong]world
	cut    map[string]bool // steps before which a crash struck
}

type origin struct {
	from  world
	event string
}

func newSearch(o order, b bounds) *search {
	return &search{order: o, bounds: b, came: map[world]origin{{}: {}}, front: []world{{}}, wrongs: map[wrong]world{}, cut: map[string]bool{}}
}

// run reaches all there is, or stops at the first state with the wrong looked for.
func (s *search) run(until *wrong) {
	for len(s.front) > 0 {
		if until != nil {
			if _, found := s.wrongs[*until]; found {
				return
			}
		}
		front := s.front
		s.front = nil
		for i := range front {
			s.staff(&front[i])
			s.people(&front[i])
			s.workers(&front[i])
			s.nature(&front[i])
		}
	}
}

// reach notes a world that one event leads to.
func (s *search) reach(from, to *world, event string, args ...any) {
	if _, known := s.came[*to]; known {
		return
	}
	if len(args) > 0 {
		event = fmt.Sprintf(event, args...)
	}
	s.came[*to] = origin{*from, event}
	s.front = append(s.front, *to)
}

// staff press "Generate code", perhaps twice at once, and take a verification back.
func (s *search) staff(from *world) {
	// I1: Store.Issue counts the generation and clears used and revoked, unless the
	// identity is verified.
	if from.codes() < modelCodes && from.gen < modelGens && !from.verified {
		w := *from
		w.gen++
		if s.order.fenced {
			w.coded, w.used, w.revoked = true, 0, false
			w.killOlder(w.gen) // the commit alone ends the code before
		}
		w.issues[w.gen] = counted
		s.reach(from, &w, "staff press: generation %d is counted", w.gen)
	}
	for g := int8(1); g <= modelGens; g++ {
		switch from.issues[g] {
		case counted: // I2: Proofs.Put keeps the proof unless one as new is there.
			w := *from
			w.issues[g] = kept
			if w.redis < g || !s.order.fenced {
				w.redis, w.owner = g, 0
			}
			if !s.order.fenced { // the proof alone decides, so this ends the one before
				w.killOthers(g)
			}
			s.reach(from, &w, "proof %d is kept", g)
		case kept: // I3
			w := *from
			w.issues[g] = answered
			for n := int8(1); n < g; n++ {
				w.replaced[n] = w.issues[n] != notPressed || w.replaced[n]
			}
			s.reach(from, &w, "code %d is read out", g)
		}
	}
	// Store.EditIdentity with verified=false: the next generation, without a code.
	if from.verified && from.takings < s.bounds.takings {
		w := *from
		w.verified = false
		w.takings++
		if s.order.fenced && w.gen < modelGens {
			w.gen++
			w.coded, w.used = false, 0
		} else if s.order.fenced {
			return // out of generations
		}
		for n := range w.dead {
			w.dead[n] = w.dead[n] || w.issues[n] != notPressed
		}
		s.reach(from, &w, "staff take the verification back")
	}
}

// killOthers marks every code but that of gen as dead.
func (w *world) killOthers(gen int8) {
	for n := range w.dead {
		w.dead[n] = w.dead[n] || int8(n) != gen && w.issues[n] != notPressed
	}
}

// people write down codes that they were told, and strangers type one.
func (s *search) people(from *world) {
	for i := range from.messages {
		if from.messages[i].code != 0 || i >= int(s.bounds.messages) || i > 0 && from.messages[i-1].code == 0 {
			continue
		}
		for g := int8(1); g <= modelGens; g++ {
			if from.issues[g] != answered {
				continue
			}
			// R0: Store.Take; received_at is the database's.
			w := *from
			w.messages[i].code, w.messages[i].received = g, w.expired
			s.reach(from, &w, "message %d with code %d is stored", i+1, g)
		}
	}
	// Store.claimStmts for Burn: claim_revoked_at, if it is not used.
	if s.order.fenced && from.burns < s.bounds.burns && from.coded && from.used == 0 && !from.revoked {
		w := *from
		w.burns++
		w.revoked = true
		w.dead[w.gen] = true
		s.reach(from, &w, "a stranger typed code %d: it is revoked", w.gen)
	}
}

// workers do the next step of a message. A lease lets one worker at a time settle a
// message, so one worker for each is enough; messages of several conversations are
// worked at the same time.
func (s *search) workers(from *world) {
	for i := range from.messages {
		m := from.messages[i]
		if m.code == 0 || int(m.at) == len(s.order.redeem) {
			continue
		}
		w := *from
		step := s.order.redeem[m.at]
		switch to := step.do(&w, i); to {
		case on:
			w.messages[i].at++
		case end:
			w.messages[i].at = int8(len(s.order.redeem))
		default:
			w.messages[i].at = int8(to)
		}
		now := &w.messages[i]
		if int(now.at) == len(s.order.redeem) {
			now.seen, now.found = row{}, vNone // forgotten: less to tell apart
		}
		s.reach(from, &w, "message %d: %s", i+1, step.name)
		for _, wr := range w.faults(from, i) {
			if _, known := s.wrongs[wr]; !known {
				s.wrongs[wr] = w
			}
		}
	}
}

// nature stops processes, lets codes expire, and does to Redis what failovers do.
func (s *search) nature(from *world) {
	if from.crashes < s.bounds.crashes {
		for i := range from.messages {
			w := *from
			if s.stop(&w, i) {
				w.crashes++
				s.reach(from, &w, "the worker of message %d stops", i+1)
			}
		}
		for g, is := range from.issues {
			if is == counted || is == kept {
				w := *from
				w.issues[g] = abandoned
				w.crashes++
				s.reach(from, &w, "the issue of code %d stops", g)
			}
		}
		s.stopAll(from)
	}
	if s.mayExpire(from) {
		w := *from
		w.expired++
		if !s.order.fenced && w.redis == w.expired { // the time to live is the expiry
			w.redis, w.owner = 0, 0
		}
		s.reach(from, &w, "code %d expires", w.expired)
	}
	if s.order.fenced && from.redis > 0 && from.redis <= from.expired {
		w := *from
		w.redis = 0
		s.reach(from, &w, "redis lets proof %d go, at the end of its grace", from.redis)
	}
	if s.bounds.failovers == 0 {
		return
	}
	if from.older != from.redis {
		w := *from
		w.older = w.redis
		s.reach(from, &w, "the copy of redis catches up")
	}
	if from.failovers < s.bounds.failovers {
		for _, to := range []int8{from.older, 0} {
			if to == from.redis && from.owner == 0 {
				continue
			}
			w := *from
			w.failovers++
			w.redis, w.owner = to, 0
			s.reach(from, &w, "redis falls back from proof %d to %d", from.redis, to)
		}
	}
}

// mayExpire reports whether the oldest code that has not expired can: its time runs
// from the commit of the row, or without a fence from its proof.
func (s *search) mayExpire(w *world) bool {
	if w.expired >= w.gen || w.expired >= s.bounds.expiries {
		return false
	}
	return s.order.fenced || w.issues[w.expired+1] >= kept
}

// stop ends the worker of message i and reports whether it was at work. What is
// settled stays; all else begins anew.
func (s *search) stop(w *world, i int) bool {
	m := &w.messages[i]
	if m.at == 0 || int(m.at) == len(s.order.redeem) {
		return false
	}
	s.cut[s.order.redeem[m.at].name] = true
	m.seen, m.found = row{}, vNone
	if m.answer != silent {
		m.at = int8(len(s.order.redeem)) // the inbox row was settled with the answer
		return true
	}
	m.at = 0
	return true
}

// stopAll ends the whole process.
func (s *search) stopAll(from *world) {
	w := *from
	n := 0
	for i := range w.messages {
		if s.stop(&w, i) {
			n++
		}
	}
	for g, is := range w.issues {
		if is == counted || is == kept {
			w.issues[g] = abandoned
			n++
		}
	}
	if n > 1 {
		w.crashes++
		s.reach(from, &w, "the process stops")
	}
}

// unreached names the steps that no crash ever cut off; the first has nothing to lose.
func (s *search) unreached() (names []string) {
	for _, st := range s.order.redeem[1:] {
		if !s.cut[st.name] {
			names = append(names, st.name)
		}
	}
	return names
}

// trace tells the shortest way to a world.
func (s *search) trace(w world) string {
	var lines []string
	for {
		o := s.came[w]
		if o.event == "" {
			break
		}
		lines = append(lines, fmt.Sprintf("  %-58s %s", o.event, w))
		w = o.from
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}
