package operation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
)

// BaseContext is huma.Context under another name, because an embedded field Context would conflict
// with its method.
type BaseContext huma.Context

// A RequestContext is the context of an authorized and checked request. Handlers read canonical
// values from it: IDs in canonical form, the last value of repeated query parameters, and a body
// that conforms to the schema.
type RequestContext struct {
	BaseContext
	Values map[string]string // by location and name, such as "query/limit"
	Body   []byte
}

// Param implements huma.Context.
func (c *RequestContext) Param(name string) string { return c.Values["path/"+name] }

// Query implements huma.Context.
func (c *RequestContext) Query(name string) string { return c.Values["query/"+name] }

// BodyReader implements huma.Context.
func (c *RequestContext) BodyReader() io.Reader { return bytes.NewReader(c.Body) }

// Header implements huma.Context.
func (c *RequestContext) Header(name string) string {
	if name == "Content-Type" {
		return "application/json"
	}
	return c.BaseContext.Header(name)
}

// A Reader reads and checks requests.
type Reader struct{ Checker *fastapi.Checker }

// Read reads path, query, headers and body, in this order, into in. If they are not valid, it
// returns a problem with all violations.
func (rd *Reader) Read(to *Route, r *http.Request, op *huma.Operation, in *RequestContext) error {
	var violations []fastapi.Violation
	for _, where := range []string{"path", "query", "header"} {
		rd.readParams(where, op.Parameters, r, in, &violations)
		if where == "query" && to.Surface == nil {
			violations = append(violations, unknownQuery(op.Parameters, r.URL.RawQuery)...)
		}
	}
	if op.RequestBody != nil {
		if err := rd.readBody(to, r, op, in, &violations); err != nil {
			return err
		}
	}
	if len(violations) > 0 {
		return fastapi.ValidationProblem(violations...)
	}
	return nil
}

func (rd *Reader) readParams(
	where string, params []*huma.Param, r *http.Request, in *RequestContext, violations *[]fastapi.Violation,
) {
	values := map[string]any{}
	query := r.URL.Query()
	for _, p := range params {
		if p.In != where {
			continue
		}
		value, exists := paramValue(where, p.Name, r, query)
		if !exists {
			if p.Required {
				*violations = append(*violations, fastapi.MissingField(where, locName(where, p.Name)))
			}
			continue
		}
		if p.Schema.Format == fastapi.FormatPhone {
			value = plusForSpace(where, value)
		}
		completed := completePhone(r.Context(), p.Schema, value, query.Get("instance_id"))
		values[p.Name] = rd.Checker.Check(p.Schema, completed, []any{where, locName(where, p.Name)}, violations)
	}
	CleanExternalID(r.Context(), values, where, query.Get("instance_id"), violations)
	for name, v := range values {
		in.Values[where+"/"+name] = paramText(v)
	}
}

// unknownQuery returns a violation for each query parameter that is not in params, in order of their
// names. A filter that is spelled wrongly would otherwise match everything.
func unknownQuery(params []*huma.Param, rawQuery string) (violations []fastapi.Violation) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return []fastapi.Violation{fastapi.ValueError("the query string is malformed", "query")}
	}
	for _, p := range params {
		if p.In == "query" {
			delete(query, p.Name)
		}
	}
	for _, name := range SortedKeys(query) {
		violations = append(violations, extraForbidden(fastapi.AppendLoc([]any{"query"}, name)))
	}
	return violations
}

// extraForbidden returns the violation of an unknown field or parameter.
func extraForbidden(loc []any) fastapi.Violation {
	return fastapi.Violation{Type: "extra_forbidden", Loc: loc, Msg: "Extra inputs are not permitted"}
}

// paramValue returns a parameter and whether it is present.
func paramValue(where, name string, r *http.Request, query url.Values) (string, bool) {
	switch where {
	case "path":
		return r.PathValue(name), true
	case "header":
		values := r.Header.Values(name)
		return strings.Join(values, ", "), len(values) > 0
	}
	values := query[name]
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}

// locName returns the name of a parameter in the location of a violation.
func locName(where, name string) string {
	if where == "header" {
		return strings.ToLower(name)
	}
	return name
}

// readBody reads the body into in.Body.
func (rd *Reader) readBody(
	to *Route, r *http.Request, op *huma.Operation, in *RequestContext, violations *[]fastapi.Violation,
) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fastapi.StatusProblem(http.StatusUnsupportedMediaType)
	}
	if r.ContentLength > fastapi.MaxBodyBytes {
		return fastapi.BodyTooLarge()
	}
	raw, p := fastapi.ReadAll(r.Body, fastapi.MaxBodyBytes)
	if p != nil {
		return p
	}
	if len(raw) == 0 {
		if op.RequestBody.Required {
			*violations = append(*violations, fastapi.MissingField("body"))
		}
		return nil
	}
	var value any = raw // not an object
	if fastapi.IsJSON(r.Header.Get("Content-Type")) {
		var duplicates []fastapi.Violation
		if value, duplicates, p = fastapi.ReadJSON(raw); p != nil {
			return p
		}
		*violations = append(*violations, duplicates...)
	}
	values := rd.checkFields(r.Context(), to, op, value, violations)
	var err error
	in.Body, err = fastapi.Encode(values)
	return err
}

// checkFields checks the fields of a body, in the order of their declaration, and then reports
// unknown fields. It returns the canonical values.
func (rd *Reader) checkFields(
	ctx context.Context, to *Route, op *huma.Operation, value any, violations *[]fastapi.Violation,
) map[string]any {
	if value == nil {
		if op.RequestBody.Required {
			*violations = append(*violations, fastapi.MissingField("body"))
		}
		return nil
	}
	fields, ok := value.(map[string]any)
	if !ok {
		*violations = append(*violations, fastapi.Violation{
			Type: "model_attributes_type", Loc: []any{"body"},
			Msg: "Input should be a valid dictionary or object to extract fields from",
		})
		return nil
	}
	values := map[string]any{}
	instance, _ := fields["instance_id"].(string)
	for _, name := range to.Fields {
		v, exists := fields[name]
		switch {
		case exists:
			v = completePhone(ctx, to.Schema.Properties[name], v, instance)
			values[name] = rd.Checker.Check(to.Schema.Properties[name], v, []any{"body", name}, violations)
		case to.isRequired(name):
			*violations = append(*violations, fastapi.MissingField("body", name))
		}
	}
	for _, name := range SortedKeys(fields) {
		if _, known := to.Schema.Properties[name]; !known {
			*violations = append(*violations, extraForbidden(fastapi.AppendLoc([]any{"body"}, name)))
		}
	}
	CleanExternalID(ctx, values, "body", instance, violations)
	return values
}

// paramText formats a checked parameter for huma, which parses it into the field of the handler's
// input.
func paramText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
