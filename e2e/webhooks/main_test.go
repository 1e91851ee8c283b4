package webhooks

import (
	"testing"

	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMain(m, harness.ServePrograms()) }

// TestChildProcess is the second process of some tests, which start this binary again.
func TestChildProcess(t *testing.T) { harness.RunChild(t) }
