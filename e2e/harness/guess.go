package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/claim/rediscode"
	"hydragate/cmd/hydragate/app"
	"hydragate/store"
	"hydragate/store/keyring"
)

// WrongCode gives a code that is none of codes.
func WrongCode(codes ...string) string {
	for {
		c := claim.NewCode()
		if !strings.Contains(strings.Join(codes, " "), c) {
			return c
		}
	}
}

// A CountingCodeStore counts what comparisons found.
type CountingCodeStore struct {
	claim.CodeStore
	mu      sync.Mutex
	Results map[claim.Result]int
}

func (c *CountingCodeStore) Check(ctx context.Context, s claim.Target, typedIn, code, message string) (claim.CheckResult, error) {
	f, err := c.CodeStore.Check(ctx, s, typedIn, code, message)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.Results == nil {
			c.Results = map[claim.Result]int{}
		}
		c.Results[f.Result]++
	}
	return f, err
}

// GuessConcurrently types n wrong codes at the same time, none of them settled, so that only the
// count beside the proof stands between the guesser and the code.
func GuessConcurrently(ctx context.Context, d *claim.Service, n int, attempt func() claim.Attempt) error {
	return errors.Join(Concurrently(n, func(int) error {
		a := attempt()
		for {
			r, err := d.DecideRedemption(ctx, a)
			if errors.Is(err, claim.ErrCodeStoreUnavailable) && ctx.Err() == nil {
				continue // asked again: the message counts once
			}
			if err == nil && r.Outcome != claim.Declined {
				err = fmt.Errorf("a wrong code is %s", r.Outcome)
			}
			return err
		}
	})...)
}

// A GuessInput tells a second process what to guess at.
type GuessInput struct {
	Database, Redis, Keys string
	Attempt               claim.Attempt
}

// guessInChild is the second process of TestFiveTriesAreCompared.
func guessInChild(t *testing.T, c *childProcess) {
	var o GuessInput
	c.readInput(t, &o)
	keys, err := keyring.Parse(o.Keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), o.Database, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, err := rediscode.NewClient(o.Redis)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	here := &CountingCodeStore{CodeStore: &rediscode.Store{Redis: client, Keys: app.ClaimKeys(keys)}}
	c.signalReady(t)
	err = GuessConcurrently(t.Context(), &claim.Service{Store: s, Codes: here}, 50, func() claim.Attempt {
		a := o.Attempt
		a.MessageID = uuid.NewString()
		return a
	})
	if err != nil {
		t.Fatal(err)
	}
	c.send(t, here.Results)
}
