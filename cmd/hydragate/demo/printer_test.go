package demo

import (
	"bytes"
	"strings"
	"testing"
)

func TestPrinter_WrapsText(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(&out)
	p.message("Steve", "bot", strings.Repeat("word ", 20))
	p.notef("%s", strings.Repeat("word ", 20))
	for line := range strings.SplitSeq(out.String(), "\n") {
		if len([]rune(line)) > 2+speakerColumn+2+textWidth || strings.TrimRight(line, " ") != line {
			t.Errorf("%q", line)
		}
	}
	if !strings.HasPrefix(out.String(), "  Steve → bot       word word") {
		t.Errorf("%q", out.String())
	}
}

func TestPrinter_ControlCharacters(t *testing.T) {
	var out bytes.Buffer
	newPrinter(&out).message("Steve", "bot", "\x1b[2Jone\u202E\ntwo\a")
	if want := "  Steve → bot       [2Jone\n                    two\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
