package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/app"
)

// A printer prints the script of the demo in two columns: who writes to whom and what, and what
// happens in the gateway. It uses colors only on a terminal.
type printer struct {
	out   io.Writer
	color bool
}

const (
	speakerColumn = 18 // width of the first column
	textWidth     = 72 // width of the second column
)

func newPrinter(w io.Writer) *printer { return &printer{out: w, color: supportsColor(w)} }

// supportsColor reports whether w is a terminal and neither NO_COLOR nor TERM=dumb is set.
func supportsColor(w io.Writer) bool {
	return app.IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// The styles of style.
const (
	styleBold = "1"
	styleDim  = "2"
)

// style returns s in a style, if colors are used.
func (t *printer) style(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// title prints the title of a section.
func (t *printer) title(s string) { fmt.Fprintf(t.out, "\n%s\n\n", t.style(styleBold, s)) }

// paragraph prints text over both columns.
func (t *printer) paragraph(s string) {
	for _, line := range wrapText(s, speakerColumn+2+textWidth) {
		fmt.Fprintln(t.out, line)
	}
}

// message prints a message from a person or the bot to another.
func (t *printer) message(from, to, text string) { t.printRow(from+" → "+to, text, "") }

// action prints an action of a person.
func (t *printer) action(who, text string) { t.printRow(who, text, "") }

// notef prints what happened in the gateway or in the application.
func (t *printer) notef(format string, args ...any) {
	t.printRow("", "· "+fmt.Sprintf(format, args...), styleDim)
}

func (t *printer) printRow(who, text, style string) {
	indent := ""
	if strings.HasPrefix(text, "· ") {
		indent = "  "
	}
	for i, line := range wrapText(text, textWidth) {
		if i > 0 {
			who, line = "", indent+line
		}
		pad := strings.Repeat(" ", max(0, speakerColumn-utf8.RuneCountInString(who)))
		if style != "" {
			line = t.style(style, line)
		}
		fmt.Fprintf(t.out, "  %s%s%s\n", who, pad, line)
	}
}

// wrapText breaks text into lines of at most width characters, between words. It removes control and
// format characters.
func wrapText(text string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(adapters.Printable(paragraph)) {
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
