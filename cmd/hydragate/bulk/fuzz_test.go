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

// FuzzImport reads arbitrary files. Each line must be a customer or cause an error of one line, and
// exporting and reading a customer again must return the same customer.
func FuzzImport(f *testing.F) {
	for _, s := range []string{
		"email,channel,external_id,instance\nsteve@example.com,telegram,12345,\n",
		"email;first_name\n'=cmd;\"a\nb\"\n", "telegram,sms\n1,+61400111222\n", "email\n\"", "email\n\"a\"b\n",
		"email,email\n", "\xef\xbb\xbfemail\nx", "",
		`{"email":"steve@example.com","metadata":{"a":[1]},"identities":[{"channel":"telegram","external_id":"12345"}]}`,
		`{"email":"a@example.com","metadata":{"a" : "<"}}`, `{"email":1}`, `{"secret":1}`, "{}\n\n{} {}",
		"\x00", "\xff", `{"metadata":` + strings.Repeat("[", 100),
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, file []byte, asCSV bool) {
		var lines lineReader = newJSONLReader(bytes.NewReader(file))
		if asCSV {
			var err error
			if lines, err = newCSVReader(bytes.NewReader(file)); err != nil {
				return
			}
		}
		v := newValidator(time.Now())
		for read := 0; ; read++ {
			l, _, err := lines.next()
			var invalid lineError
			switch {
			case errors.Is(err, io.EOF):
				return
			case read > len(file):
				t.Fatal("more lines than bytes")
			case errors.As(err, &invalid):
				continue
			case err != nil:
				t.Fatal(err)
			}
			r, err := v.validate(l)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\r\x00") {
					t.Errorf("validate error = %q, want one line", err)
				}
				continue
			}
			var out bytes.Buffer
			w := newJSONLWriter(&out)
			if err := errors.Join(w.write(newCustomerLine(r)), w.flush()); err != nil {
				t.Fatal(err)
			}
			l, _, err = newJSONLReader(&out).next()
			if err != nil {
				t.Fatalf("next() of an exported line: %v", err)
			}
			again, err := v.validate(l)
			if err != nil || !reflect.DeepEqual(stripMetadata(again), stripMetadata(r)) {
				t.Errorf("%+v was read again as %+v, %v", newCustomerLine(r), newCustomerLine(again), err)
			}
		}
	})
}

// stripMetadata removes the metadata, because equal JSON can be written differently.
func stripMetadata(r identity.Record) customerLine {
	l := newCustomerLine(r)
	l.Metadata = nil
	for n := range l.Identities {
		l.Identities[n].Metadata = nil
	}
	return l
}
