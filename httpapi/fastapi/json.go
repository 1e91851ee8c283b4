package fastapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of request bodies.
const (
	MaxBodyBytes = 256 << 10

	maxDepth     = 32
	maxKeys      = 1000
	maxNameRunes = 100 // of a field name in a violation
)

// ReadJSON decodes a body that must consist of one JSON value. It is stricter than encoding/json:
// keys are case sensitive, duplicate keys are violations, and depth and number of keys are limited
// before values are built. A body that cannot be decoded is a problem.
func ReadJSON(body []byte) (any, []Violation, *Problem) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if !utf8.Valid(body) {
		return nil, nil, NewProblem(http.StatusBadRequest, "There was an error parsing the body")
	}
	if jsonDepth(body) > maxDepth {
		return nil, nil, ValidationProblem(ValueError(fmt.Sprintf("nested deeper than %d levels", maxDepth), "body"))
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, nil, ValidationProblem(jsonViolation(body, err))
	}
	if position := loneSurrogate(body); position >= 0 {
		return nil, nil, ValidationProblem(Violation{
			Type: "json_invalid", Loc: []any{"body", position}, Msg: "JSON decode error",
			Ctx: map[string]any{"error": "lone surrogate in hex escape"},
		})
	}
	r := strictReader{dec: json.NewDecoder(bytes.NewReader(body))}
	r.dec.UseNumber()
	v := r.value([]any{"body"})
	if r.keys > maxKeys {
		return nil, nil, ValidationProblem(ValueError(fmt.Sprintf("more than %d fields", maxKeys), "body"))
	}
	return v, r.violations, nil
}

// A strictReader builds the value of a body that is known to be valid JSON.
type strictReader struct {
	dec        *json.Decoder
	keys       int
	violations []Violation
}

// value reads the next value.
func (r *strictReader) value(loc []any) any {
	switch token := r.token().(type) {
	case json.Delim:
		if token == '{' {
			return r.object(loc)
		}
		return r.list(loc)
	case json.Number:
		if !isStorable(token) {
			r.violations = append(r.violations, ValueError("number out of range", loc...))
		}
		return token
	default:
		return token
	}
}

func (r *strictReader) object(loc []any) map[string]any {
	object := map[string]any{}
	for r.dec.More() {
		key, _ := r.token().(string)
		if r.keys++; r.keys > maxKeys {
			break
		}
		here := AppendLoc(loc, key)
		if _, exists := object[key]; exists {
			r.violations = append(r.violations, ValueError("duplicate field", here...))
		}
		object[key] = r.value(here)
	}
	_ = r.token()
	return object
}

func (r *strictReader) list(loc []any) []any {
	list := []any{}
	for r.dec.More() {
		list = append(list, r.value(AppendLoc(loc, len(list))))
	}
	_ = r.token()
	return list
}

// token returns the next token. Token cannot fail because the JSON is valid.
func (r *strictReader) token() json.Token {
	token, _ := r.dec.Token()
	return token
}

// AppendLoc returns a new location with next appended. It truncates a long field name, so that
// responses do not grow with the request.
func AppendLoc(loc []any, next any) []any {
	if name, ok := next.(string); ok {
		if runes := []rune(name); len(runes) > maxNameRunes {
			next = string(runes[:maxNameRunes]) + "…"
		}
	}
	return append(append(make([]any, 0, len(loc)+1), loc...), next)
}

// isStorable reports whether every supported database can store a number. Some overflow at
// exponents that JSON allows.
func isStorable(n json.Number) bool {
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || math.IsInf(f, 0) || len(n) > 400 {
		return false
	}
	_, exponent, _ := strings.Cut(strings.ToLower(n.String()), "e")
	e, err := strconv.Atoi(strings.TrimPrefix(exponent, "+"))
	return exponent == "" || err == nil && e > -400 && e < 400
}

// loneSurrogate returns the position, in characters, of the first escape of a surrogate that is not
// part of a pair, or -1. encoding/json would decode it as U+FFFD. body must be valid JSON.
func loneSurrogate(body []byte) int {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		r := decodeEscape(body[i:])
		switch {
		case r < 0:
			i++ // another escape
		case !utf16.IsSurrogate(r):
			i += 5
		case utf16.DecodeRune(r, decodeEscape(body[i+6:])) == utf8.RuneError:
			return utf8.RuneCount(body[:i])
		default:
			i += 11
		}
	}
	return -1
}

// decodeEscape returns the code unit of the \uXXXX escape at the beginning of b, or -1 if there is
// none.
func decodeEscape(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// jsonDepth returns the nesting depth of lists and objects without decoding them.
func jsonDepth(body []byte) int {
	maxSeen, depth, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			maxSeen = max(maxSeen, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return maxSeen
}

// jsonViolation describes why a body is not valid JSON. It does not quote the body.
func jsonViolation(body []byte, err error) Violation {
	offset := int64(len(body))
	reason := "Expecting value"
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset
		reason = syntaxReason(syntax.Error())
		if offset > 0 && !strings.HasPrefix(syntax.Error(), "unexpected end") {
			offset--
		}
	}
	position := utf8.RuneCount(body[:min(offset, int64(len(body)))])
	return Violation{
		Type: "json_invalid", Loc: []any{"body", position}, Msg: "JSON decode error",
		Ctx: map[string]any{"error": reason},
	}
}

// syntaxReason translates an error text of encoding/json into that of Python.
func syntaxReason(text string) string {
	for _, known := range []struct{ in, out string }{
		{"object key string", "Expecting property name enclosed in double quotes"},
		{"after object key:value pair", "Expecting ',' delimiter"},
		{"after array element", "Expecting ',' delimiter"},
		{"after object key", "Expecting ':' delimiter"},
		{"after top-level value", "Extra data"},
		{"in string escape code", "Invalid \\escape"},
		{"hexadecimal character escape", "Invalid \\uXXXX escape"},
		{"in string literal", "Invalid control character at"},
	} {
		if strings.Contains(text, known.in) {
			return known.out
		}
	}
	return "Expecting value"
}

// ReadAll reads a body of at most limit bytes. The problem has status 413 if the body is larger.
func ReadAll(r io.Reader, limit int64) ([]byte, *Problem) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case int64(len(body)) > limit:
		return nil, BodyTooLarge()
	case err != nil:
		return nil, NewProblem(http.StatusBadRequest, "There was an error parsing the body")
	}
	return body, nil
}

// BodyTooLarge returns a problem with status 413.
func BodyTooLarge() *Problem { return StatusProblem(http.StatusRequestEntityTooLarge) }

// Encode returns the JSON of v without HTML escaping and trailing newline.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// IsJSON reports whether a media type is JSON: application/json or
// application/…+json.
func IsJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	sub, ok := strings.CutPrefix(media, "application/")
	return err == nil && ok && (sub == "json" || strings.HasSuffix(sub, "+json"))
}
