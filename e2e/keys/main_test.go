// Package keys tests the rotation of master keys and of provider secrets with the commands of the
// program.
package keys

import (
	"testing"

	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMain(m, nil) }
