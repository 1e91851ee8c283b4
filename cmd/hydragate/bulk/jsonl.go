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

// maxJSONLine is the maximum length of a line of JSON Lines, in bytes.
const maxJSONLine = 1 << 20

// A jsonlReader reads customers from JSON Lines.
type jsonlReader struct {
	r          *bufio.Reader
	lineNumber int
}

func newJSONLReader(r io.Reader) *jsonlReader {
	b := bufio.NewReaderSize(r, maxJSONLine)
	if bom, _ := b.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	return &jsonlReader{r: b}
}

// next implements lineReader. It skips empty lines.
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

// skipLine reads to the end of a line that is too long. It returns a lineError.
func (j *jsonlReader) skipLine() error {
	for {
		switch _, err := j.r.ReadSlice('\n'); {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && !errors.Is(err, io.EOF):
			return err
		default:
			return lineError{errors.New("the line is longer than 1 MiB")}
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
		return l, j.lineNumber, lineError{errors.New("unexpected text after the JSON object")}
	}
	return l, j.lineNumber, nil
}

// redactJSONError returns a description of err that does not contain values of the line.
func redactJSONError(err error) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		return fmt.Errorf("%s: cannot be a JSON %s", mismatch.Field, mismatch.Value)
	}
	if _, name, ok := strings.Cut(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("unknown field %s", name)
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
