package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const maxBody = 256 << 10

// inner lets a type embed huma.Context, whose method Context would hide the field.
type inner huma.Context

// An admitted request was authenticated and checked. What its handler reads from it
// is clean: ids in their canonical spelling, the last of repeated query keys, a body
// that is JSON and of the right shape.
type admitted struct {
	inner
	values map[string]string // by "query/limit"
	body   []byte
}

func (c *admitted) Param(name string) string { return c.values["path/"+name] }
func (c *admitted) Query(name string) string { return c.values["query/"+name] }
func (c *admitted) BodyReader() io.Reader    { return bytes.NewReader(c.body) }
func (c *admitted) Header(name string) string {
	if name == "Content-Type" {
		return "application/json"
	}
	return c.inner.Header(name)
}

// admit is the way into every operation: who are you, may you, is this right, and
// was this asked before?
func (a *API) admit(ctx huma.Context, next func(huma.Context)) {
	called := a.byID[ctx.Operation().OperationID]
	r, w := humago.Unwrap(ctx)
	if err := a.letIn(called, r); err != nil {
		a.fail(r.Context(), err).write(w)
		return
	}
	in := &admitted{inner: ctx, values: map[string]string{}}
	if err := a.read(called, r, ctx.Operation(), in); err != nil {
		a.fail(r.Context(), err).write(w)
		return
	}
	if err := within(callerOf(r.Context()), in); err != nil {
		a.fail(r.Context(), err).write(w)
		return
	}
	a.once(called, r, in, next)
}

func (a *API) letIn(to *route, r *http.Request) error {
	key, err := a.authenticate(r)
	if err != nil {
		return err
	}
	recordOf(r.Context()).key = key
	if wait := a.budgets.spend(key.ID, a.Now(), a.Rate, a.Burst); wait > 0 {
		return tooMany(wait)
	}
	if !key.May(to.scope) {
		return missingScope(to.scope)
	}
	return nil
}

// read checks path, query, headers and body, in this order, and says everything that
// is wrong with them at once.
func (a *API) read(to *route, r *http.Request, op *huma.Operation, in *admitted) error {
	var wrong []violation
	for _, where := range []string{"path", "query", "header"} {
		a.params(where, op.Parameters, r, in, &wrong)
	}
	if op.RequestBody != nil {
		if err := a.body(to, r, op, in, &wrong); err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return invalid(wrong...)
	}
	return nil
}

func (a *API) params(where string, params []*huma.Param, r *http.Request, in *admitted, wrong *[]violation) {
	clean := map[string]any{}
	query := r.URL.Query()
	for _, p := range params {
		if p.In != where {
			continue
		}
		value, given := paramOf(where, p.Name, r, query)
		if !given {
			if p.Required {
				*wrong = append(*wrong, missing(where, nameIn(where, p.Name)))
			}
			continue
		}
		clean[p.Name] = a.check.value(p.Schema, value, []any{where, nameIn(where, p.Name)}, wrong)
	}
	cleanAddress(clean, where, wrong)
	for name, v := range clean {
		in.values[where+"/"+name] = textOf(v)
	}
}

func paramOf(where, name string, r *http.Request, query url.Values) (string, bool) {
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

func nameIn(where, name string) string {
	if where == "header" {
		return strings.ToLower(name)
	}
	return name
}

func missing(loc ...any) violation {
	return violation{Type: "missing", Loc: loc, Msg: "Field required"}
}

// body reads the body and leaves it, clean, in in.
func (a *API) body(to *route, r *http.Request, op *huma.Operation, in *admitted, wrong *[]violation) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return plain(http.StatusUnsupportedMediaType)
	}
	if r.ContentLength > maxBody {
		return tooLarge()
	}
	raw, p := readAll(r.Body, maxBody)
	if p != nil {
		return p
	}
	if len(raw) == 0 {
		if op.RequestBody.Required {
			*wrong = append(*wrong, missing("body"))
		}
		return nil
	}
	var value any = raw // not an object
	if isJSON(r.Header.Get("Content-Type")) {
		var twice []violation
		if value, twice, p = readJSON(raw); p != nil {
			return p
		}
		*wrong = append(*wrong, twice...)
	}
	clean := a.fields(to, op, value, wrong)
	var err error
	in.body, err = encode(clean)
	return err
}

// isJSON reports whether a media type is JSON: application/json or
// application/…+json.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	sub, ok := strings.CutPrefix(media, "application/")
	return err == nil && ok && (sub == "json" || strings.HasSuffix(sub, "+json"))
}

// fields checks a body field by field, in the order of their declaration, and then
// what should not be there.
func (a *API) fields(to *route, op *huma.Operation, value any, wrong *[]violation) map[string]any {
	if value == nil {
		if op.RequestBody.Required {
			*wrong = append(*wrong, missing("body"))
		}
		return nil
	}
	given, ok := value.(map[string]any)
	if !ok {
		*wrong = append(*wrong, violation{Type: "model_attributes_type", Loc: []any{"body"}, Msg: "Input should be a valid dictionary or object to extract fields from"})
		return nil
	}
	clean := map[string]any{}
	for _, name := range to.fields {
		v, there := given[name]
		switch {
		case there:
			clean[name] = a.check.value(to.schema.Properties[name], v, []any{"body", name}, wrong)
		case to.required(name):
			*wrong = append(*wrong, missing("body", name))
		}
	}
	for _, name := range sortedKeys(given) {
		if _, known := to.schema.Properties[name]; !known {
			*wrong = append(*wrong, violation{Type: "extra_forbidden", Loc: at([]any{"body"}, name), Msg: "Extra inputs are not permitted"})
		}
	}
	cleanAddress(clean, "body", wrong)
	return clean
}

// textOf writes a clean parameter as a handler's field reads it.
func textOf(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
