package claim

import (
	"context"
	"errors"
	"testing"
)

// A fakeCodeStore returns the same result for every code.
type fakeCodeStore struct {
	CodeStore
	found map[string]Target
	err   error
}

func (s fakeCodeStore) Find(context.Context, Target, []string) (map[string]Target, error) {
	return s.found, s.err
}

func TestService_IsLiveCode(t *testing.T) {
	for name, c := range map[string]struct {
		fakeCodeStore
		want bool
		err  error
	}{
		"ordinary word":            {fakeCodeStore{}, false, nil},
		"code of another identity": {fakeCodeStore{found: map[string]Target{"WDJBMJ": {IdentityID: "matt"}}}, true, nil},
		"store unavailable":        {fakeCodeStore{err: errors.New("no answer")}, false, ErrCodeStoreUnavailable},
	} {
		got, err := (&Service{Codes: c.fakeCodeStore}).IsLiveCode(t.Context(), Attempt{Code: "WDJBMJ"})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: IsLiveCode = %v, %v, want %v, %v", name, got, err, c.want, c.err)
		}
	}
}
