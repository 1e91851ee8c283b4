// Package keys tests the rotation of master keys and of provider secrets with the built program.
package keys

import (
	"testing"

	"hydragate/e2e/harness"
)

// TestMain builds the program and runs the tests.
func TestMain(m *testing.M) { harness.RunMainWithCommands(m) }
