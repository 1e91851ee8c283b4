package keys

import (
	"testing"

	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMainWithCommands(m) }
