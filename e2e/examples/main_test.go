// Package examples tests the sample applications in the directory examples with a gateway.
package examples

import (
	"testing"

	"hydragate/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunMain(m, nil) }
