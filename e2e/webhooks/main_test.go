package webhooks

import (
	"testing"

	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMain(m, nil) }
