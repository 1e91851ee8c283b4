package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// reading is more than any one body may take to be read.
const reading = 5 * time.Second

// What the strict reader takes is JSON, reads as encoding/json reads it, and is bounded.
// What it refuses it does not show.
func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{
		`{"email":"steve@example.com"}`, `{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"ſ":1}`, "\ufeff{}", `{} {}`, `{}x`, `[`, `"\ud800"`, `"\u0000"`, "\"\x00\"", "\"\xff\"", `1e999999`, `-0`, `1E+5`, `null`, `true`, ``,
		strings.Repeat("[", 33) + strings.Repeat("]", 33), strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32), `{"` + strings.Repeat(`a":1,"b`, 600) + `":1}`, `["\"[[[[","\\",{"]":"}"}]`, `{"a":[1,2,{"b":null}],"c":"d"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > maxBody {
			return
		}
		begun := time.Now()
		got, wrong, refused := readJSON(body)
		if took := time.Since(begun); took > reading {
			t.Errorf("reading %d bytes took %v", len(body), took)
		}
		if refused != nil {
			if refused.status < 400 || refused.status > 499 {
				t.Errorf("%q is answered %d", body, refused.status)
			}
			return
		}
		var want any
		d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q is taken, and is no JSON: %v", body, err)
		}
		if len(wrong) == 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%q is read as %v; want %v", body, got, want)
		}
		keys, deepest := size(got)
		if keys > maxKeys || deepest > maxDepth {
			t.Errorf("%d fields in %d levels are taken", keys, deepest)
		}
	})
}

func size(v any) (keys, levels int) {
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			k, l := size(inner)
			keys, levels = keys+k+1, max(levels, l)
		}
		return keys, levels + 1
	case []any:
		for _, inner := range v {
			k, l := size(inner)
			keys, levels = keys+k, max(levels, l)
		}
		return keys, levels + 1
	}
	return 0, 0
}

// An id has one canonical spelling, that of everybody else who reads ids, or a reason.
func FuzzUUID(f *testing.F) {
	for _, s := range []string{
		"01930f6e-0000-7000-8000-000000000001", "01930F6E-0000-7000-8000-000000000001", "01930f6e000070008000000000000001", "{01930f6e-0000-7000-8000-000000000001}", "urn:uuid:01930f6e-0000-7000-8000-000000000001",
		"URN:UUID:01930f6e-0000-7000-8000-000000000001", "01930f6e-0000-7000-8000-00000000000", "----", "{}", "{", "urn:uuid:", "", "g", "01930f6e-0000-7000-8000-00000000000１", "\xff", "' or 1=1 --", "00000000-0000-0000-0000-000000000000",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, reason := parseUUID(in)
		if (id == "") == (reason == "") || !utf8.ValidString(reason) && utf8.ValidString(in) {
			t.Fatalf("%q is %q, because %q", in, id, reason)
		}
		if id == "" {
			return
		}
		known, err := uuid.Parse(in)
		if err != nil || known.String() != id {
			t.Errorf("%q is %s; others read %s, %v", in, id, known, err)
		}
		if again, _ := parseUUID(id); again != id {
			t.Errorf("%s is %s", id, again)
		}
	})
}

// The place before a cursor is a cursor, and right before it.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001", "01930f6e-0000-7000-8000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "", "x", "-", "1", strings.Repeat("f", 33)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, reason := parseUUID(in)
		if reason != "" {
			return // nothing else ever becomes a cursor
		}
		before := justBefore(id)
		if before == "" {
			if id != "00000000-0000-0000-0000-000000000000" {
				t.Errorf("nothing is before %s", id)
			}
			return
		}
		if again, _ := parseUUID(before); again != before || before >= id {
			t.Errorf("%s is before %s", before, id)
		}
	})
}

// What a format takes is kept in one spelling, which it takes again; what it refuses it
// does not show.
func FuzzFormats(f *testing.F) {
	check := newChecker(false)
	names := []string{formatUUID, formatTime, formatEmail, formatPhone, formatLocale, formatTimezone, formatAgentURL}
	for i := range names {
		for _, s := range []string{
			"2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123456789+14:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "steve@example.com", "a@b", "\"a b\"@c", "Steve <steve@example.com>", "+61400111222", "en-AU", "x-private", "i-klingon",
			"Australia/Sydney", "../../etc/passwd", "Local", "UTC", "https://agent.example/x", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "http://agent.example", "javascript:alert(1)", "https://steve:x@agent.example", "https://agent.example\\@evil.example", "//evil", "", "\x00", "\xff",
		} {
			f.Add(byte(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, in string) {
		name := names[int(which)%len(names)]
		clean, bad := check.formats[name](in)
		if bad != nil {
			if bad.Msg == "" || bad.Type == "" {
				t.Errorf("%s of %q: %+v", name, in, bad)
			}
			return
		}
		again, bad := check.formats[name](clean)
		if bad != nil || again != clean {
			t.Errorf("%s: %q is kept as %q, and that as %q, %+v", name, in, clean, again, bad)
		}
		if strings.ContainsRune(clean, 0) && name != formatAgentURL {
			t.Errorf("%s: %q is kept as %q", name, in, clean)
		}
	})
}

// A token is what stands in the headers, alone or the same in both, and nothing else.
func FuzzToken(f *testing.F) {
	f.Add("Bearer hg_live_x", "")
	f.Add("bearer  hg_live_x ", "hg_live_x")
	f.Add("Bearer a", "b")
	f.Add("Basic YTpi", "a")
	f.Add("", " ")
	f.Add("Bearer", "")
	f.Add("Bearer\u00a0x", "")
	f.Fuzz(func(t *testing.T, authorization, apiKey string) {
		h := http.Header{}
		if authorization != "" {
			h.Add("Authorization", authorization)
		}
		if apiKey != "" {
			h.Add("X-Api-Key", apiKey)
		}
		token, ok := tokenOf(h)
		switch {
		case !ok && token != "":
			t.Errorf("no token, and %q", token)
		case ok && (token == "" || token != strings.TrimSpace(token)):
			t.Errorf("the token %q", token)
		case ok && authorization != "" && !(strings.EqualFold(authorization[:7], "Bearer ") && strings.HasSuffix(strings.TrimSpace(authorization), token)):
			t.Errorf("%q gives %q", authorization, token)
		case ok && apiKey != "" && strings.TrimSpace(apiKey) != token:
			t.Errorf("%q gives %q", apiKey, token)
		}
	})
}

// An idempotency key that is taken is printable and of bounded length.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"a", "", " ", strings.Repeat("k", 255), strings.Repeat("k", 256), "é", "a\x00", "a\nb", "a\n", "\x7f", "~"} {
		f.Add(s)
	}
	check, schema := newChecker(false), idempotencyParam().Schema
	f.Fuzz(func(t *testing.T, in string) {
		var wrong []violation
		got := check.value(schema, in, []any{"header", "idempotency-key"}, &wrong)
		if len(wrong) > 0 {
			return
		}
		if got != in || in == "" || len(in) > 255 || strings.ContainsFunc(in, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q is taken as %v", in, got)
		}
	})
}
