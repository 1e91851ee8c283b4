package fastapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// maxReadTime is the maximum time for decoding a body.
const maxReadTime = 30 * time.Second

// FuzzReadJSON checks that accepted bodies are within the limits and decoded as by encoding/json,
// and that other bodies get a 4xx status.
func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{
		`{"email":"steve@example.com"}`, `{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"ſ":1}`, "\ufeff{}", `{} {}`, `{}x`, `[`,
		`"\ud800"`, `"\u0000"`, "\"\x00\"", "\"\xff\"", `1e999999`, `-0`, `1E+5`, `null`, `true`, ``,
		strings.Repeat("[", 33) + strings.Repeat("]", 33),
		strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32), `{"` + strings.Repeat(`a":1,"b`, 600) + `":1}`,
		`["\"[[[[","\\",{"]":"}"}]`, `{"a":[1,2,{"b":null}],"c":"d"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > MaxBodyBytes {
			return
		}
		start := time.Now()
		got, violations, problem := ReadJSON(body)
		if took := time.Since(start); took > maxReadTime {
			t.Errorf("ReadJSON of %d bytes took %v", len(body), took)
		}
		if problem != nil {
			if problem.Status < 400 || problem.Status > 499 {
				t.Errorf("ReadJSON(%q) = status %d, want 4xx", body, problem.Status)
			}
			return
		}
		var want any
		d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("ReadJSON(%q) accepts invalid JSON: %v", body, err)
		}
		if len(violations) == 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("ReadJSON(%q) = %v, want %v", body, got, want)
		}
		keys, depth := measureJSON(got)
		if keys > maxKeys || depth > maxDepth {
			t.Errorf("ReadJSON accepts %d fields and %d levels", keys, depth)
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
