package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// A printer prints a story: who says what to whom, and what happened behind it, in two
// columns. It uses colour on a terminal alone.
type printer struct {
	out   io.Writer
	color bool
}

const (
	speakerColumn = 18 // of what is said
	textWidth     = 72 // of a line of it
)

func newPrinter(w io.Writer) *printer { return &printer{out: w, color: supportsColor(w)} }

// supportsColor reports whether w is a terminal whose owner has not asked for plain text.
func supportsColor(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

const (
	styleBold = "1"
	styleDim  = "2"
)

func (t *printer) style(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// title begins a chapter.
func (t *printer) title(s string) { fmt.Fprintf(t.out, "\n%s\n\n", t.style(styleBold, s)) }

// paragraph prints a sentence of its own.
func (t *printer) paragraph(s string) {
	for _, line := range wrapText(s, speakerColumn+2+textWidth) {
		fmt.Fprintln(t.out, line)
	}
}

// dialogue prints what somebody says to somebody.
func (t *printer) dialogue(from, to, text string) { t.printRow(from+" → "+to, text, "") }

// action prints what somebody does.
func (t *printer) action(who, what string) { t.printRow(who, what, "") }

// note prints what happened that nobody of the story sees.
func (t *printer) note(format string, args ...any) {
	t.printRow("", "· "+fmt.Sprintf(format, args...), styleDim)
}

func (t *printer) printRow(who, text, style string) {
	hanging := ""
	if strings.HasPrefix(text, "· ") {
		hanging = "  "
	}
	for i, line := range wrapText(text, textWidth) {
		if i > 0 {
			who, line = "", hanging+line
		}
		pad := strings.Repeat(" ", max(0, speakerColumn-utf8.RuneCountInString(who)))
		if style != "" {
			line = t.style(style, line)
		}
		fmt.Fprintf(t.out, "  %s%s%s\n", who, pad, line)
	}
}

// wrapText breaks a text into lines of at most width characters, between words.
func wrapText(text string, width int) []string {
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
