// Package fastapi validates requests and formats errors as FastAPI and Pydantic do, so that clients
// written for a FastAPI service can use the API unchanged. It knows neither the routes nor the
// domain.
//
// See https://fastapi.tiangolo.com/tutorial/handling-errors and
// https://docs.pydantic.dev/latest/errors/validation_errors.
package fastapi

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// A Checker checks values against schemas of the OpenAPI document. It reports violations with the
// types and messages of Pydantic, and converts valid values to their canonical form.
type Checker struct {
	// Formats check and canonicalize the strings of a format.
	Formats map[string]func(s string) (canonical string, violation *Violation)

	patterns sync.Map // compiled patterns: map[string]*regexp.Regexp
}

// Check returns the canonical form of v, which is the value at loc. It appends violations of the
// schema to violations.
func (c *Checker) Check(s *huma.Schema, v any, loc []any, violations *[]Violation) any {
	if v == nil && s.Nullable {
		return nil
	}
	canonical, violation := c.checkType(s, v, loc, violations)
	if violation != nil {
		violation.Loc = loc
		*violations = append(*violations, *violation)
	}
	return canonical
}

func (c *Checker) checkType(s *huma.Schema, v any, loc []any, violations *[]Violation) (any, *Violation) {
	switch s.Type {
	case huma.TypeString:
		return c.checkString(s, v)
	case huma.TypeBoolean:
		return checkBoolean(v)
	case huma.TypeInteger:
		return checkInteger(s, v)
	case huma.TypeArray:
		return c.checkList(s, v, loc, violations)
	}
	return checkObject(v)
}

func (c *Checker) checkString(s *huma.Schema, v any) (any, *Violation) {
	text, ok := v.(string)
	switch n := utf8.RuneCountInString(text); {
	case s.Enum != nil:
		if !ok || !slices.Contains(s.Enum, any(text)) {
			return nil, enumViolation(s.Enum)
		}
	case !ok && s.Format == FormatUUID:
		return nil, &Violation{Type: "uuid_type", Msg: "UUID input should be a string, bytes or UUID object"}
	case !ok:
		return nil, &Violation{Type: "string_type", Msg: "Input should be a valid string"}
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		return nil, invalidText()
	case s.MinLength != nil && n < *s.MinLength:
		return nil, &Violation{
			Type: "string_too_short", Msg: "String should have at least " + pluralize(*s.MinLength, "character"),
			Ctx: map[string]any{"min_length": *s.MinLength},
		}
	case s.MaxLength != nil && n > *s.MaxLength:
		return nil, &Violation{
			Type: "string_too_long", Msg: "String should have at most " + pluralize(*s.MaxLength, "character"),
			Ctx: map[string]any{"max_length": *s.MaxLength},
		}
	case s.Pattern != "" && !c.compilePattern(s.Pattern).MatchString(text):
		return nil, &Violation{
			Type: "string_pattern_mismatch", Msg: "String should match pattern '" + s.Pattern + "'",
			Ctx: map[string]any{"pattern": s.Pattern},
		}
	}
	if format := c.Formats[s.Format]; format != nil {
		return format(text)
	}
	return text, nil
}

// invalidText returns the violation of a string that not every database can store.
func invalidText() *Violation { return InvalidValue("text must not contain NUL or invalid UTF-8") }

func (c *Checker) compilePattern(p string) *regexp.Regexp {
	compiled, _ := c.patterns.Load(p)
	if re, ok := compiled.(*regexp.Regexp); ok {
		return re
	}
	re := regexp.MustCompile(p) // the patterns are constants in this repository
	c.patterns.Store(p, re)
	return re
}

func enumViolation(enum []any) *Violation {
	var quoted []string
	for _, e := range enum {
		if e != nil {
			quoted = append(quoted, fmt.Sprintf("'%v'", e))
		}
	}
	expected, kind := quoted[0], "literal_error"
	if n := len(quoted); n > 1 {
		expected, kind = strings.Join(quoted[:n-1], ", ")+" or "+quoted[n-1], "enum"
	}
	return &Violation{Type: kind, Msg: "Input should be " + expected, Ctx: map[string]any{"expected": expected}}
}

// checkBoolean accepts the values that Pydantic accepts for a boolean, such as true, 1 and "yes".
func checkBoolean(v any) (any, *Violation) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string, json.Number:
		switch strings.ToLower(fmt.Sprint(v)) {
		case "true", "1", "yes", "on", "t", "y":
			return true, nil
		case "false", "0", "no", "off", "f", "n":
			return false, nil
		}
		return nil, &Violation{
			Type: "bool_parsing", Msg: "Input should be a valid boolean, unable to interpret input",
		}
	}
	return nil, &Violation{Type: "bool_type", Msg: "Input should be a valid boolean"}
}

func checkInteger(s *huma.Schema, v any) (any, *Violation) {
	var n float64
	switch v := v.(type) {
	case json.Number:
		n, _ = v.Float64()
		if n != math.Trunc(n) {
			return nil, &Violation{
				Type: "int_from_float", Msg: "Input should be a valid integer, got a number with a fractional part",
			}
		}
	case string:
		i, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		if err != nil {
			return nil, &Violation{
				Type: "int_parsing", Msg: "Input should be a valid integer, unable to parse string as an integer",
			}
		}
		n = float64(i)
	default:
		return nil, &Violation{Type: "int_type", Msg: "Input should be a valid integer"}
	}
	switch {
	case s.Minimum != nil && n < *s.Minimum:
		return nil, &Violation{
			Type: "greater_than_equal", Msg: fmt.Sprintf("Input should be greater than or equal to %v", *s.Minimum),
			Ctx: map[string]any{"ge": *s.Minimum},
		}
	case s.Maximum != nil && n > *s.Maximum:
		return nil, &Violation{
			Type: "less_than_equal", Msg: fmt.Sprintf("Input should be less than or equal to %v", *s.Maximum),
			Ctx: map[string]any{"le": *s.Maximum},
		}
	}
	return int64(n), nil
}

func (c *Checker) checkList(s *huma.Schema, v any, loc []any, violations *[]Violation) (any, *Violation) {
	list, ok := v.([]any)
	if !ok {
		return nil, &Violation{Type: "list_type", Msg: "Input should be a valid list"}
	}
	if s.MinItems != nil && len(list) < *s.MinItems {
		return nil, lengthViolation("too_short", "least", "min_length", *s.MinItems, len(list))
	}
	if s.MaxItems != nil && len(list) > *s.MaxItems {
		return nil, lengthViolation("too_long", "most", "max_length", *s.MaxItems, len(list))
	}
	canonical := make([]any, len(list))
	for i, item := range list {
		canonical[i] = c.Check(s.Items, item, AppendLoc(loc, i), violations)
	}
	return canonical, nil
}

func lengthViolation(kind, bound, name string, want, got int) *Violation {
	return &Violation{
		Type: kind,
		Msg: fmt.Sprintf(
			"List should have at %s %s after validation, not %d", bound, pluralize(want, "item"), got,
		),
		Ctx: map[string]any{"field_type": "List", name: want, "actual_length": got},
	}
}

// Limits of objects with arbitrary fields.
const (
	maxObjectBytes = 16 << 10
	maxObjectDepth = 8
)

// checkObject checks an object with arbitrary fields, such as metadata.
func checkObject(v any) (any, *Violation) {
	data, ok := v.(map[string]any)
	if !ok {
		return nil, &Violation{Type: "dict_type", Msg: "Input should be a valid dictionary"}
	}
	text, err := Encode(data)
	switch {
	case err != nil || len(text) > maxObjectBytes:
		return nil, InvalidValue(fmt.Sprintf("the object exceeds %d bytes", maxObjectBytes))
	case jsonDepth(text) > maxObjectDepth:
		return nil, InvalidValue(fmt.Sprintf("the object is nested deeper than %d levels", maxObjectDepth))
	case hasNUL(data):
		return nil, invalidText()
	}
	return data, nil
}

func hasNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		return slices.ContainsFunc(v, hasNUL)
	case map[string]any:
		for key, value := range v {
			if hasNUL(key) || hasNUL(value) {
				return true
			}
		}
	}
	return false
}

func pluralize(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
