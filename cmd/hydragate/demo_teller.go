package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// A teller prints a story: who says what to whom, and what happened behind it, in two
// columns. It uses colour on a terminal alone.
type teller struct {
	out    io.Writer
	colour bool
}

const (
	tellerColumn = 18 // of what is said
	tellerWidth  = 72 // of a line of it
)

func newTeller(w io.Writer) *teller { return &teller{out: w, colour: colourful(w)} }

// colourful reports whether w is a terminal whose owner has not asked for plain text.
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

const (
	bold = "1"
	dim  = "2"
)

func (t *teller) style(code, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// title begins a chapter.
func (t *teller) title(s string) { fmt.Fprintf(t.out, "\n%s\n\n", t.style(bold, s)) }

// plain prints a sentence of its own.
func (t *teller) plain(s string) {
	for _, line := range wrapped(s, tellerColumn+2+tellerWidth) {
		fmt.Fprintln(t.out, line)
	}
}

// said prints what somebody says to somebody.
func (t *teller) said(from, to, text string) { t.row(from+" → "+to, text, "") }

// did prints what somebody does.
func (t *teller) did(who, what string) { t.row(who, what, "") }

// behind prints what happened that nobody of the story sees.
func (t *teller) behind(format string, args ...any) {
	t.row("", "· "+fmt.Sprintf(format, args...), dim)
}

func (t *teller) row(who, text, style string) {
	hanging := ""
	if strings.HasPrefix(text, "· ") {
		hanging = "  "
	}
	for i, line := range wrapped(text, tellerWidth) {
		if i > 0 {
			who, line = "", hanging+line
		}
		pad := strings.Repeat(" ", max(0, tellerColumn-utf8.RuneCountInString(who)))
		if style != "" {
			line = t.style(style, line)
		}
		fmt.Fprintf(t.out, "  %s%s%s\n", who, pad, line)
	}
}

// wrapped breaks a text into lines of at most width characters, between words.
func wrapped(text string, width int) []string {
	var lines []string
	for _, paragraph := range strings.Split(text, "\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			switch {
			case line == "":
				line = word
			case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
				lines, line = append(lines, line), word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}
