//go:build unix

package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
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

// WrongCode returns a claim code that is not one of codes.
func WrongCode(codes ...string) string {
	for {
		c := claim.NewCode()
		if !strings.Contains(strings.Join(codes, " "), c) {
			return c
		}
	}
}

// A CountingCodeStore counts the results of checks.
type CountingCodeStore struct {
	claim.CodeStore
	mu      sync.Mutex
	Results map[claim.Result]int
}

// Check counts the result of the underlying store.
func (c *CountingCodeStore) Check(
	ctx context.Context, target claim.Target, typedIn, code, message string,
) (claim.CheckResult, error) {
	result, err := c.CodeStore.Check(ctx, target, typedIn, code, message)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.Results == nil {
			c.Results = map[claim.Result]int{}
		}
		c.Results[result.Result]++
	}
	return result, err
}

// GuessConcurrently decides n attempts concurrently without committing any, so that only the count
// in the code store limits the guesses. It returns an error if one of them is not declined.
func GuessConcurrently(ctx context.Context, s *claim.Service, n int, attempt func() claim.Attempt) error {
	return errors.Join(Concurrently(n, func(int) error {
		a := attempt()
		for {
			decision, err := s.DecideRedemption(ctx, a)
			if errors.Is(err, claim.ErrCodeStoreUnavailable) && ctx.Err() == nil {
				continue // the message counts once, however often it is decided
			}
			if err == nil && decision.Outcome != claim.Declined {
				err = fmt.Errorf("outcome of a wrong code = %s", decision.Outcome)
			}
			return err
		}
	})...)
}

// processGuesses is the number of guesses that one of two processes makes.
const processGuesses = 50

// A GuessInput is what the program guess needs to connect to the stores and to guess.
type GuessInput struct {
	Database, Redis, Keys string
	Attempt               claim.Attempt
}

// GuessInTwoProcesses makes processGuesses wrong attempts in this process and as many in another
// one at the same time. It returns the results of the checks in the other process.
func GuessInTwoProcesses(
	t *testing.T,
	s *claim.Service,
	attempt func() claim.Attempt,
	in GuessInput,
) map[claim.Result]int {
	t.Helper()
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	begin, signal := io.Pipe()
	var out bytes.Buffer
	cmd := exec.Command("guess", string(input))
	cmd.Stdin, cmd.Stderr = begin, os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	if ready, err := lines.ReadString('\n'); err != nil {
		t.Fatalf("guess is not ready: %q, %v", ready, err)
	}
	_ = signal.Close()
	if err := GuessConcurrently(t.Context(), s, processGuesses, attempt); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(&out, lines)
	results := map[claim.Result]int{}
	if err := errors.Join(cmd.Wait(), json.Unmarshal(out.Bytes(), &results)); err != nil {
		t.Fatal(err)
	}
	return results
}

// guess is the other process of GuessInTwoProcesses. It prints a line when it is connected, starts
// when its standard input is closed, and prints the results of the checks.
func guess() { exitOnError("guess", runGuess(context.Background())) }

func runGuess(ctx context.Context) error {
	var in GuessInput
	if err := json.Unmarshal([]byte(os.Args[1]), &in); err != nil {
		return err
	}
	keys, err := keyring.Parse(in.Keys)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, in.Database, keys)
	if err != nil {
		return err
	}
	defer s.Close()
	client, err := rediscode.NewClient(in.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	codes := &CountingCodeStore{CodeStore: &rediscode.Store{Redis: client, Keys: app.ClaimKeys(keys)}}
	fmt.Fprintln(os.Stdout, "ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	err = GuessConcurrently(ctx, &claim.Service{Store: s, Codes: codes}, processGuesses, func() claim.Attempt {
		a := in.Attempt
		a.MessageID = uuid.NewString()
		return a
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(codes.Results)
}
