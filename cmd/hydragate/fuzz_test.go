package main

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

// Whatever the settings are, they are good or there is one line that says what is wrong,
// without the value: that may be a secret.
func FuzzSettings(f *testing.F) {
	fields := reflect.TypeFor[settings]().NumField()
	for _, s := range []string{
		"", "127.0.0.1:0", ":8080", "[::1]:8080", "https://hooks.example.com", "https://hooks.example.com/x", "http://steve:secretsecretsecret@host/", "postgres://steve:secretsecretsecret@host/db", "redis://:secretsecretsecret@host:1,rediss://b",
		"k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "deadbeefdeadbeefdeadbeefdeadbeef", "k1:c2VjcmV0c2VjcmV0c2VjcmV0", "k1:x,k1:x", "short-admin-key", "https://issuer.example", "true", "1", "maybe", "debug", "text", "\x00", "\xff", "://", "https://[::1", "%zz",
	} {
		for i := range fields {
			f.Add(byte(i), s, "")
		}
	}
	f.Fuzz(func(t *testing.T, which byte, value, other string) {
		s := settings{Listen: "127.0.0.1:8080", LogLevel: "info"}
		v := reflect.ValueOf(&s).Elem()
		i := int(which) % fields
		v.Field(i).SetString(value)
		v.Field((i + 1) % fields).SetString(other)
		err := s.check()
		if err == nil {
			if _, err := s.allowPrivate(); err != nil {
				t.Errorf("good, and then %v", err)
			}
			return
		}
		said := err.Error()
		if !strings.Contains(said, "HYDRAGATE_") && !strings.Contains(said, "OTEL_") {
			t.Errorf("%q is wrong, and it is not said which: %s", value, said)
		}
		if strings.ContainsAny(said, "\n\r\x00") {
			t.Errorf("%q is wrong in more than a line: %q", value, said)
		}
		// Longer than any word of ours, so not found by chance.
		if len(value) > 80 && strings.Contains(said, value) || value == "deadbeefdeadbeefdeadbeefdeadbeef" && strings.Contains(said, value) {
			t.Errorf("the value is told: %s", said)
		}
	})
}

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
		var lines bulkReader = newJSONLines(bytes.NewReader(file))
		if asCSV {
			var err error
			if lines, err = newCSVLines(bytes.NewReader(file)); err != nil {
				return
			}
		}
		check := newBulkCheck(time.Now())
		for read := 0; ; read++ {
			l, _, err := lines.next()
			var wrong errLine
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
			r, err := check.record(l)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\r\x00") {
					t.Errorf("what is wrong is more than a line: %q", err)
				}
				continue
			}
			var out bytes.Buffer
			w := newJSONWriter(&out)
			if err := errors.Join(w.write(lineOf(r)), w.flush()); err != nil {
				t.Fatal(err)
			}
			l, _, err = newJSONLines(&out).next()
			if err != nil {
				t.Fatalf("what was written is not read: %v", err)
			}
			again, err := check.record(l)
			if err != nil || !reflect.DeepEqual(withoutData(again), withoutData(r)) {
				t.Errorf("%+v is read as %+v, %v", lineOf(r), lineOf(again), err)
			}
		}
	})
}

// withoutData leaves out the JSON of the caller's own, which has many spellings.
func withoutData(r identity.Record) bulkLine {
	l := lineOf(r)
	l.Metadata = nil
	for n := range l.Identities {
		l.Identities[n].Metadata = nil
	}
	return l
}
