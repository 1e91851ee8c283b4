package bulk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxJSONLine is the longest line of a file of JSON lines.
const MaxJSONLine = 1 << 20

// A jsonlReader reads customers from JSON Lines.
type jsonlReader struct {
	r          *bufio.Reader
	lineNumber int
}

func NewJSONLReader(r io.Reader) *jsonlReader {
	b := bufio.NewReaderSize(r, MaxJSONLine)
	if mark, _ := b.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	return &jsonlReader{r: b}
}

// next gives a line and its number in the file; io.EOF after the last. Empty lines
// are passed over.
func (j *jsonlReader) next() (l customerLine, n int, err error) {
	for {
		j.lineNumber++
		text, err := j.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return l, j.lineNumber, j.skipLine()
		case err != nil && !errors.Is(err, io.EOF):
			return l, 0, err
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return j.decodeLine(text)
		}
		if err != nil {
			return l, 0, io.EOF
		}
	}
}

// skipLine reads to the end of a line that is too long.
func (j *jsonlReader) skipLine() error {
	for {
		switch _, err := j.r.ReadSlice('\n'); {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && !errors.Is(err, io.EOF):
			return err
		default:
			return lineError{errors.New("the line has more than 1 MiB")}
		}
	}
}

func (j *jsonlReader) decodeLine(text []byte) (l customerLine, n int, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, j.lineNumber, lineError{redactJSONError(err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, j.lineNumber, lineError{errors.New("something stands after the JSON object")}
	}
	return l, j.lineNumber, nil
}

// redactJSONError says what is wrong with a line without what stands in it.
func redactJSONError(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return fmt.Errorf("%s: a JSON %s does not fit here", kind.Field, kind.Value)
	}
	if _, name, ok := strings.Cut(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("there is no field %s", name)
	}
	return errors.New("the line is not a JSON object")
}

// A jsonlWriter writes customers as JSON Lines.
type jsonlWriter struct {
	w *bufio.Writer
	e *json.Encoder
}

func newJSONLWriter(w io.Writer) *jsonlWriter {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return &jsonlWriter{b, e}
}

func (j *jsonlWriter) write(l customerLine) error { return j.e.Encode(l) }

func (j *jsonlWriter) flush() error { return j.w.Flush() }
