package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"hydragate/cmd/hydragate/app"
)

// A lineIO reads lines and prints text. print may be called while read waits.
type lineIO interface {
	// read returns the next line. ok is false at the end of the input.
	read() (line string, ok bool, err error)
	print(text string)
	warn(text string)
	width() int
	close()
}

// openLineIO returns a lineIO with line editing if the console is a terminal.
func openLineIO(con app.Console, prompt string) (lineIO, error) {
	in, ok := con.In.(*os.File)
	out, ok2 := con.Out.(*os.File)
	if ok && ok2 && app.IsTerminal(in) && app.IsTerminal(out) {
		return newTerminalIO(in, out, prompt)
	}
	s := bufio.NewScanner(con.In)
	s.Buffer(nil, maxInputLine)
	return &plainIO{console: con, scanner: s}, nil
}

// defaultWidth is the number of columns that is assumed if it cannot be determined.
const defaultWidth = 80

// maxInputLine is the maximum length of a line that is not typed, in bytes.
const maxInputLine = 64 << 10

// plainIO reads and prints without line editing.
type plainIO struct {
	console app.Console
	scanner *bufio.Scanner
}

func (p *plainIO) read() (line string, ok bool, err error) {
	if p.scanner.Scan() {
		return p.scanner.Text(), true, nil
	}
	if errors.Is(p.scanner.Err(), bufio.ErrTooLong) {
		return "", false, fmt.Errorf("a line is longer than %d bytes", maxInputLine)
	}
	return "", false, p.scanner.Err()
}

func (p *plainIO) print(text string) { fmt.Fprintln(p.console.Out, text) }

func (p *plainIO) warn(text string) { fmt.Fprintln(p.console.Err, text) }

func (p *plainIO) width() int { return defaultWidth }

func (p *plainIO) close() {}

// terminalIO reads lines with a prompt, editing and a history. What is printed appears above the
// line that is being typed.
type terminalIO struct {
	in, out *os.File
	term    *term.Terminal
	state   *term.State
}

// newTerminalIO switches the terminal to raw mode until close is called.
func newTerminalIO(in, out *os.File, prompt string) (*terminalIO, error) {
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	rw := struct {
		io.Reader
		io.Writer
	}{in, out}
	t := &terminalIO{in: in, out: out, term: term.NewTerminal(rw, prompt), state: state}
	t.resize()
	return t, nil
}

// resize updates the line editor's window size, which may have changed.
func (t *terminalIO) resize() {
	if columns, rows, err := term.GetSize(int(t.out.Fd())); err == nil && columns > 0 {
		_ = t.term.SetSize(columns, rows)
	}
}

// read returns the next line. Ctrl-C, and Ctrl-D on an empty line, end the input.
func (t *terminalIO) read() (line string, ok bool, err error) {
	t.resize()
	line, err = t.term.ReadLine()
	if errors.Is(err, io.EOF) {
		return "", false, nil
	}
	return line, err == nil, err
}

func (t *terminalIO) print(text string) {
	t.resize()
	_, _ = t.term.Write([]byte(text + "\n"))
}

func (t *terminalIO) warn(text string) { t.print(text) }

func (t *terminalIO) width() int {
	columns, _, err := term.GetSize(int(t.out.Fd()))
	if err != nil || columns <= 0 {
		return defaultWidth
	}
	return columns
}

// close restores the terminal, with the cursor at the start of a new line.
func (t *terminalIO) close() {
	_ = term.Restore(int(t.in.Fd()), t.state)
	fmt.Fprintln(t.out)
}
