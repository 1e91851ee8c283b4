package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxJSONLine is the longest line of a file of JSON lines.
const maxJSONLine = 1 << 20

// A jsonLines reads customers from JSON Lines.
type jsonLines struct {
	r *bufio.Reader
	n int
}

func newJSONLines(r io.Reader) *jsonLines {
	b := bufio.NewReaderSize(r, maxJSONLine)
	if mark, _ := b.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	return &jsonLines{r: b}
}

// next gives a line and its number in the file; io.EOF after the last. Empty lines
// are passed over.
func (j *jsonLines) next() (l bulkLine, n int, err error) {
	for {
		j.n++
		text, err := j.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return l, j.n, j.skip()
		case err != nil && !errors.Is(err, io.EOF):
			return l, 0, err
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return j.line(text)
		}
		if err != nil {
			return l, 0, io.EOF
		}
	}
}

// skip reads to the end of a line that is too long.
func (j *jsonLines) skip() error {
	for {
		switch _, err := j.r.ReadSlice('\n'); {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && !errors.Is(err, io.EOF):
			return err
		default:
			return errLine{errors.New("the line has more than 1 MiB")}
		}
	}
}

func (j *jsonLines) line(text []byte) (l bulkLine, n int, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, j.n, errLine{plainJSONError(err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, j.n, errLine{errors.New("something stands after the JSON object")}
	}
	return l, j.n, nil
}

// plainJSONError says what is wrong with a line without what stands in it.
func plainJSONError(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return fmt.Errorf("%s: a JSON %s does not fit here", kind.Field, kind.Value)
	}
	if _, name, ok := strings.Cut(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("there is no field %s", name)
	}
	return errors.New("the line is not a JSON object")
}

// A jsonWriter writes customers as JSON Lines.
type jsonWriter struct {
	w *bufio.Writer
	e *json.Encoder
}

func newJSONWriter(w io.Writer) *jsonWriter {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return &jsonWriter{b, e}
}

func (j *jsonWriter) write(l bulkLine) error { return j.e.Encode(l) }
func (j *jsonWriter) flush() error           { return j.w.Flush() }
