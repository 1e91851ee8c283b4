package app

import (
	"errors"
	"io"
)

// Console is where a command reads and writes.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
}

// ErrReported ends a command that has already said what is wrong.
var ErrReported = errors.New("said")
