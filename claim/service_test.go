package claim

import (
	"context"
	"errors"
	"testing"
)

// fakeCodeStore are Proofs that say the same of everything.
type fakeCodeStore struct {
	CodeStore
	result CheckResult
	err    error
}

func (s fakeCodeStore) Check(context.Context, Target, string, string, string) (CheckResult, error) {
	return s.result, s.err
}

// TestService_IsLiveCode tells a code that came without a command from an ordinary word, and from
// what cannot be told apart now.
func TestService_IsLiveCode(t *testing.T) {
	for name, c := range map[string]struct {
		fakeCodeStore
		stray bool
		err   error
	}{
		"a word":               {fakeCodeStore{result: CheckResult{Result: Missing}}, false, nil},
		"somebody's":           {fakeCodeStore{result: CheckResult{Result: Missing, OtherIdentityID: "matt", OtherGen: 1}}, true, nil},
		"half of them away":    {fakeCodeStore{result: CheckResult{Result: Missing, Incomplete: true}}, false, ErrCodeStoreUnavailable},
		"all of them are away": {fakeCodeStore{err: errors.New("no answer")}, false, ErrCodeStoreUnavailable},
	} {
		stray, err := (&Service{Codes: c.fakeCodeStore}).IsLiveCode(t.Context(), Attempt{Code: "WDJBMJ"})
		if stray != c.stray || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, stray, err, c.stray, c.err)
		}
	}
}
