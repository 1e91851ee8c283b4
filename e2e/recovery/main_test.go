// Package recovery tests that no message is lost or duplicated when a gateway, a database, a disk
// or an application fails.
package recovery

import (
	"testing"

	"hydragate/e2e/harness"
)

// TestMain runs the tests, or one of the child programs that they start.
func TestMain(m *testing.M) { harness.RunMain(m, nil) }
