package main

import (
	"reflect"
	"strings"
	"testing"
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
