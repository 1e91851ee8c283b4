package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrPanic marks an error made from a recovered panic.
var ErrPanic = errors.New("panic")

// RecoverInto recovers from a panic and stores it in *err, with its stack, as an error that matches
// ErrPanic. It must be deferred directly. The work that panicked is then retried and abandoned like
// any failed work, and other work is not affected.
func RecoverInto(err *error) {
	if value := recover(); value != nil {
		*err = fmt.Errorf("%w: %v\n%s", ErrPanic, value, debug.Stack())
	}
}
