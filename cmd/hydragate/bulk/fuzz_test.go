package bulk

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"hydragate/identity"
)

// Whatever stands in a file of customers, each line is a customer or there is one line that
// says what is wrong, and what was read is read again from what export writes of it.
func FuzzImport(f *testing.F) {
	for _, s := range []string{
		"email,channel,external_id,instance\nsteve@example.com,telegram,12345,\n", "email;first_name\n'=cmd;\"a\nb\"\n", "telegram,sms\n1,+61400111222\n", "email\n\"", "email\n\"a\"b\n", "email,email\n", "\xef\xbb\xbfemail\nx", "",
		`{"email":"steve@example.com","metadata":{"a":[1]},"identities":[{"channel":"telegram","external_id":"12345"}]}`, `{"email":"a@example.com","metadata":{"a" : "<"}}`, `{"email":1}`, `{"secret":1}`, "{}\n\n{} {}", "\x00", "\xff", `{"metadata":` + strings.Repeat("[", 100),
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, file []byte, asCSV bool) {
		var lines LineReader = NewJSONLReader(bytes.NewReader(file))
		if asCSV {
			var err error
			if lines, err = NewCSVReader(bytes.NewReader(file)); err != nil {
				return
			}
		}
		check := NewValidator(time.Now())
		for read := 0; ; read++ {
			l, _, err := lines.next()
			var wrong lineError
			switch {
			case errors.Is(err, io.EOF):
				return
			case read > len(file):
				t.Fatal("the file has no end")
			case errors.As(err, &wrong):
				continue
			case err != nil:
				t.Fatal(err)
			}
			r, err := check.validate(l)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\r\x00") {
					t.Errorf("what is wrong is more than a line: %q", err)
				}
				continue
			}
			var out bytes.Buffer
			w := newJSONLWriter(&out)
			if err := errors.Join(w.write(newCustomerLine(r)), w.flush()); err != nil {
				t.Fatal(err)
			}
			l, _, err = NewJSONLReader(&out).next()
			if err != nil {
				t.Fatalf("what was written is not read: %v", err)
			}
			again, err := check.validate(l)
			if err != nil || !reflect.DeepEqual(stripMetadata(again), stripMetadata(r)) {
				t.Errorf("%+v is read as %+v, %v", newCustomerLine(r), newCustomerLine(again), err)
			}
		}
	})
}

// stripMetadata leaves out the JSON of the caller's own, which has many spellings.
func stripMetadata(r identity.Record) customerLine {
	l := newCustomerLine(r)
	l.Metadata = nil
	for n := range l.Identities {
		l.Identities[n].Metadata = nil
	}
	return l
}
