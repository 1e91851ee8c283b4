package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// errPanic is what a panic becomes.
var errPanic = errors.New("panic")

// caught makes a panic of the function that defers it an error like any other, which
// tells where it came from. What was worked on is tried again and given up in the end,
// and nothing else ends with it.
func caught(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("%w: %v\n%s", errPanic, reason, debug.Stack())
	}
}
