package app

import (
	"errors"
	"io"
	"os"

	"golang.org/x/term"
)

// A Console holds the standard streams of a command.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
}

// ErrReported is returned by a command that has already printed what went wrong. The program
// exits with status 1 and prints nothing more.
var ErrReported = errors.New("the problem was reported")

// IsTerminal reports whether a stream of a Console is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
