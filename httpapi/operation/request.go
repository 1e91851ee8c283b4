package operation

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
)

// BaseContext lets a type embed huma.Context, whose method Context would hide the field.
type BaseContext huma.Context

// An RequestContext request was authenticated and checked. What its handler reads from it
// is clean: ids in their canonical spelling, the last of repeated query keys, a body
// that is JSON and of the right shape.
type RequestContext struct {
	BaseContext
	Values map[string]string // by "query/limit"
	Body   []byte
}

func (c *RequestContext) Param(name string) string { return c.Values["path/"+name] }

func (c *RequestContext) Query(name string) string { return c.Values["query/"+name] }

func (c *RequestContext) BodyReader() io.Reader { return bytes.NewReader(c.Body) }

func (c *RequestContext) Header(name string) string {
	if name == "Content-Type" {
		return "application/json"
	}
	return c.BaseContext.Header(name)
}

// A Reader reads and checks requests.
type Reader struct{ Checker *fastapi.Checker }

// readRequest checks path, query, headers and body, in this order, and says everything that
// is wrong with them at once.
func (rd *Reader) Read(to *Route, r *http.Request, op *huma.Operation, in *RequestContext) error {
	var wrong []fastapi.Violation
	for _, where := range []string{"path", "query", "header"} {
		rd.readParams(where, op.Parameters, r, in, &wrong)
	}
	if op.RequestBody != nil {
		if err := rd.readBody(to, r, op, in, &wrong); err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return fastapi.ValidationProblem(wrong...)
	}
	return nil
}

func (rd *Reader) readParams(where string, params []*huma.Param, r *http.Request, in *RequestContext, wrong *[]fastapi.Violation) {
	clean := map[string]any{}
	query := r.URL.Query()
	for _, p := range params {
		if p.In != where {
			continue
		}
		value, given := paramValue(where, p.Name, r, query)
		if !given {
			if p.Required {
				*wrong = append(*wrong, fastapi.MissingField(where, locName(where, p.Name)))
			}
			continue
		}
		clean[p.Name] = rd.Checker.Check(p.Schema, value, []any{where, locName(where, p.Name)}, wrong)
	}
	CleanExternalID(clean, where, wrong)
	for name, v := range clean {
		in.Values[where+"/"+name] = paramText(v)
	}
}

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

func locName(where, name string) string {
	if where == "header" {
		return strings.ToLower(name)
	}
	return name
}

// readBody reads the body and leaves it, clean, in in.
func (rd *Reader) readBody(to *Route, r *http.Request, op *huma.Operation, in *RequestContext, wrong *[]fastapi.Violation) error {
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
			*wrong = append(*wrong, fastapi.MissingField("body"))
		}
		return nil
	}
	var value any = raw // not an object
	if fastapi.IsJSON(r.Header.Get("Content-Type")) {
		var twice []fastapi.Violation
		if value, twice, p = fastapi.ReadJSON(raw); p != nil {
			return p
		}
		*wrong = append(*wrong, twice...)
	}
	clean := rd.checkFields(to, op, value, wrong)
	var err error
	in.Body, err = fastapi.Encode(clean)
	return err
}

// checkFields checks a body field by field, in the order of their declaration, and then
// what should not be there.
func (rd *Reader) checkFields(to *Route, op *huma.Operation, value any, wrong *[]fastapi.Violation) map[string]any {
	if value == nil {
		if op.RequestBody.Required {
			*wrong = append(*wrong, fastapi.MissingField("body"))
		}
		return nil
	}
	given, ok := value.(map[string]any)
	if !ok {
		*wrong = append(*wrong, fastapi.Violation{Type: "model_attributes_type", Loc: []any{"body"}, Msg: "Input should be a valid dictionary or object to extract fields from"})
		return nil
	}
	clean := map[string]any{}
	for _, name := range to.Fields {
		v, there := given[name]
		switch {
		case there:
			clean[name] = rd.Checker.Check(to.Schema.Properties[name], v, []any{"body", name}, wrong)
		case to.isRequired(name):
			*wrong = append(*wrong, fastapi.MissingField("body", name))
		}
	}
	for _, name := range SortedKeys(given) {
		if _, known := to.Schema.Properties[name]; !known {
			*wrong = append(*wrong, fastapi.Violation{Type: "extra_forbidden", Loc: fastapi.AppendLoc([]any{"body"}, name), Msg: "Extra inputs are not permitted"})
		}
	}
	CleanExternalID(clean, "body", wrong)
	return clean
}

// paramText writes a clean parameter as a handler's field reads it.
func paramText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
