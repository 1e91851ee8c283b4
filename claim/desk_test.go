package claim

import (
	"context"
	"errors"
	"testing"
)

// saying are Proofs that say the same of everything.
type saying struct {
	Proofs
	found Finding
	err   error
}

func (s saying) Check(context.Context, Subject, string, string, string) (Finding, error) {
	return s.found, s.err
}

// TestStray tells a code that came without a command from an ordinary word, and from
// what cannot be told apart now.
func TestStray(t *testing.T) {
	for name, c := range map[string]struct {
		saying
		stray bool
		err   error
	}{
		"a word":               {saying{found: Finding{Verdict: Missing}}, false, nil},
		"somebody's":           {saying{found: Finding{Verdict: Missing, Whose: "matt", WhoseGen: 1}}, true, nil},
		"half of them away":    {saying{found: Finding{Verdict: Missing, Unsure: true}}, false, ErrNoProofs},
		"all of them are away": {saying{err: errors.New("no answer")}, false, ErrNoProofs},
	} {
		stray, err := (&Desk{Proofs: c.saying}).Stray(t.Context(), Attempt{Code: "WDJBMJ"})
		if stray != c.stray || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, stray, err, c.stray, c.err)
		}
	}
}
