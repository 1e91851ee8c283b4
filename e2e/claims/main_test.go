// Package claims tests the redemption of claim codes and invites: concurrency, guessing, crashes,
// unavailable stores and leaks.
package claims

import (
	"testing"

	"hydragate/e2e/harness"
)

// TestMain runs the tests, or one of the child programs that they start.
func TestMain(m *testing.M) { harness.RunMain(m, nil) }
