package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrPanic is what a panic becomes.
var ErrPanic = errors.New("panic")

// RecoverInto makes a panic of the function that defers it an error like any other, which
// tells where it came from. What was worked on is tried again and given up in the end,
// and nothing else ends with it.
func RecoverInto(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("%w: %v\n%s", ErrPanic, reason, debug.Stack())
	}
}
