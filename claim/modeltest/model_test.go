package modeltest

import (
	"os"
	"testing"
)

// TestRedemptionModel_NoViolations explores every reachable state of the implemented protocol,
// with crashes, failovers and expiries at every step. With HYDRAGATE_TEST_LONG=1 it explores more.
func TestRedemptionModel_NoViolations(t *testing.T) {
	all := []struct {
		bounds bounds
		least  int // number of states
	}{
		{bounds{messages: 2, crashes: 2, failovers: 1, expiries: 1, unverifications: 1}, 100_000},
		{bounds{messages: 2, crashes: 1, expiries: 1, unverifications: 1, revocations: 1}, 40_000},
		{bounds{messages: 3, crashes: 1, failovers: 1}, 200_000},
		{bounds{messages: 1, crashes: 1, unverifications: 1, answers: 2}, 10_000},
	}
	if os.Getenv("HYDRAGATE_TEST_LONG") == "1" {
		all = append(all, []struct {
			bounds bounds
			least  int
		}{
			{bounds{messages: 2, crashes: 3, failovers: 2, expiries: 1, unverifications: 1}, 400_000},
			{bounds{messages: 2, crashes: 1, expiries: 2, unverifications: 1, revocations: 1}, 100_000},
			{bounds{messages: 3, crashes: 3, failovers: 2, expiries: 1}, 5_000_000},
			{bounds{messages: 2, crashes: 3, failovers: 2, expiries: 2, unverifications: 1, revocations: 1}, 3_000_000},
			{bounds{messages: 3, crashes: 1, expiries: 1, unverifications: 1, revocations: 1}, 900_000},
			{bounds{messages: 2, crashes: 1, failovers: 1, expiries: 1, answers: 2}, 1_000_000},
			{bounds{messages: 2, crashes: 1, unverifications: 1, revocations: 1, answers: 2}, 1_000_000},
		}...)
	}
	for _, tt := range all {
		s := newSearch(implementedProtocol, tt.bounds)
		s.run(nil)
		t.Logf("%d states within %+v", len(s.origins), tt.bounds)
		if len(s.origins) < tt.least {
			t.Errorf("explored %d states, want at least %d", len(s.origins), tt.least)
		}
		for w, where := range s.violations {
			t.Errorf("%s:\n%s", w, s.trace(where))
		}
		for _, step := range s.uninterruptedSteps() {
			t.Errorf("no crash interrupted step %q", step)
		}
	}
}

// TestRedemptionModel_SimplerProtocolsFail checks that the search finds the violations of
// protocols that look simpler.
func TestRedemptionModel_SimplerProtocolsFail(t *testing.T) {
	for _, tt := range []struct {
		protocol protocol
		bounds   bounds
		want     violation
	}{
		{deleteThenGrant, bounds{messages: 3, crashes: 1}, validCodeDeclined},
		{deleteThenGrant, bounds{messages: 3, failovers: 1}, grantedTwice},
		{deleteThenGrant, bounds{messages: 3}, grantedAfterReissue},
		{deleteThenGrant, bounds{messages: 3, failovers: 1, expiries: 1}, grantedAfterExpiry},
		{deleteThenGrant, bounds{messages: 3, expiries: 1}, validCodeDeclined},
		{grantThenDelete, bounds{messages: 3, unverifications: 1}, grantedTwice},
		{grantThenDelete, bounds{messages: 3, crashes: 1, unverifications: 1}, grantedTwice},
		{grantThenDelete, bounds{messages: 3}, grantedAfterReissue},
		{grantThenDelete, bounds{messages: 3, failovers: 1, expiries: 1}, grantedAfterExpiry},
		{grantThenDelete, bounds{messages: 3, failovers: 1}, validCodeDeclined},
		{reserveThenGrant, bounds{messages: 3, failovers: 1, unverifications: 1}, grantedTwice},
		{reserveThenGrant, bounds{messages: 3}, grantedAfterReissue},
		{reserveThenGrant, bounds{messages: 3, failovers: 1, expiries: 1}, grantedAfterExpiry},
		{reserveThenGrant, bounds{messages: 3}, validCodeDeclined},
		{lostAsWrong, bounds{messages: 3, failovers: 1}, validCodeDeclined},
		{grantWithoutFence, bounds{messages: 3}, grantedTwice},
		{grantWithoutFence, bounds{messages: 3}, grantedAfterReissue},
		{grantWithoutFence, bounds{messages: 3, unverifications: 1}, grantedAfterUnverify},
		{answerWithoutFence, bounds{messages: 1, answers: 2}, grantedAfterRefusal},
		{answerWithoutFence, bounds{messages: 1, answers: 2}, grantedTwice},
		{answerWithoutFence, bounds{messages: 1, answers: 1}, grantedAfterReissue},
		{answerWithoutFence, bounds{messages: 1, answers: 1, unverifications: 1}, grantedAfterUnverify},
		{answerByCommitTime, bounds{messages: 1, answers: 1}, validAnswerLost},
		{answerByCommitTime, bounds{messages: 1, answers: 1}, refusalLost},
		{grantWhileAsking, bounds{messages: 1, answers: 1}, grantedWithoutOwner},
	} {
		s := newSearch(tt.protocol, tt.bounds)
		s.run(&tt.want)
		where, found := s.violations[tt.want]
		if !found {
			t.Errorf("%q: did not find the violation %q in %d states", tt.protocol.name, tt.want, len(s.origins))
			continue
		}
		t.Logf("%s: %s\n%s", tt.protocol.name, tt.want, s.trace(where))
	}
}

// TestRedemptionModel_EveryReplyReachable checks that the search covers something: every message
// can get every reply.
func TestRedemptionModel_EveryReplyReachable(t *testing.T) {
	s := newSearch(implementedProtocol, bounds{messages: 3, failovers: 1})
	s.run(nil)
	for i := range modelMessages {
		for _, want := range []modelReply{granted, alreadyVerified, declined, codeLost} {
			found := false
			for w := range s.origins {
				if w.messages[i].reply == want {
					found = true
					break
				}
			}
			if !found {
				t.Errorf("message %d is never answered with %q", i+1, replyNames[want])
			}
		}
	}
}
