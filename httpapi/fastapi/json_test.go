package fastapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// maxReadTime is more than any one body may take to be read.
const maxReadTime = 5 * time.Second

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
		if len(body) > MaxBodyBytes {
			return
		}
		begun := time.Now()
		got, wrong, refused := ReadJSON(body)
		if took := time.Since(begun); took > maxReadTime {
			t.Errorf("reading %d bytes took %v", len(body), took)
		}
		if refused != nil {
			if refused.Status < 400 || refused.Status > 499 {
				t.Errorf("%q is answered %d", body, refused.Status)
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
		keys, deepest := measureJSON(got)
		if keys > maxKeys || deepest > maxDepth {
			t.Errorf("%d fields in %d levels are taken", keys, deepest)
		}
	})
}

func measureJSON(v any) (keys, levels int) {
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			k, l := measureJSON(inner)
			keys, levels = keys+k+1, max(levels, l)
		}
		return keys, levels + 1
	case []any:
		for _, inner := range v {
			k, l := measureJSON(inner)
			keys, levels = keys+k, max(levels, l)
		}
		return keys, levels + 1
	}
	return 0, 0
}
