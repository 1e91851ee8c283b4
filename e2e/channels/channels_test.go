// Package channels tests what becomes of the messages that people really send, by a table of recorded
// payloads in testdata: one file a row, in the folder of its channel.
package channels

import (
	"testing"

	"hydragate/e2e/harness"
	"hydragate/e2e/harness/cases"
)

// TestMain runs the tests, or one of the child programs that they start.
func TestMain(m *testing.M) { harness.RunMain(m, nil) }

// TestMessages checks the events, replies and calls that result from each recorded payload.
func TestMessages(t *testing.T) {
	harness.ForEachEngine(t, func(t *testing.T, engine harness.Engine) {
		for _, r := range cases.Run(t, engine, cases.Load(t, "testdata")) {
			t.Run(r.Case.Channel+"/"+r.Case.Name, func(t *testing.T) {
				if r.Failure != "" {
					t.Errorf("%s: %s", r.Case.About, r.Failure)
				}
			})
		}
	})
}
