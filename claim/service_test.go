package claim

import (
	"context"
	"errors"
	"testing"
)

// A fakeCodeStore returns the same result for every code.
type fakeCodeStore struct {
	CodeStore
	result CheckResult
	err    error
}

func (s fakeCodeStore) Check(context.Context, Target, string, string, string) (CheckResult, error) {
	return s.result, s.err
}

func TestService_IsLiveCode(t *testing.T) {
	for name, c := range map[string]struct {
		fakeCodeStore
		want bool
		err  error
	}{
		"ordinary word": {fakeCodeStore{result: CheckResult{Result: Missing}}, false, nil},
		"code of another identity": {
			fakeCodeStore{result: CheckResult{Result: Missing, OtherIdentityID: "matt", OtherGen: 1}}, true, nil,
		},
		"incomplete lookup": {
			fakeCodeStore{result: CheckResult{Result: Missing, Incomplete: true}}, false, ErrCodeStoreUnavailable,
		},
		"store unavailable": {fakeCodeStore{err: errors.New("no answer")}, false, ErrCodeStoreUnavailable},
	} {
		got, err := (&Service{Codes: c.fakeCodeStore}).IsLiveCode(t.Context(), Attempt{Code: "WDJBMJ"})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: IsLiveCode = %v, %v, want %v, %v", name, got, err, c.want, c.err)
		}
	}
}
