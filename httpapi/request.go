package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// nativeMiddleware is the way into every operation: who are you, may you, is this right, and
// was this asked before?
func (a *API) nativeMiddleware(ctx huma.Context, next func(huma.Context)) {
	called := a.routesByID[ctx.Operation().OperationID]
	r, w := humago.Unwrap(ctx)
	if err := a.authorize(called, r); err != nil {
		a.problemFor(r.Context(), err).Write(w)
		return
	}
	in := &operation.RequestContext{BaseContext: ctx, Values: map[string]string{}}
	if err := a.readRequest(called, r, ctx.Operation(), in); err != nil {
		a.problemFor(r.Context(), err).Write(w)
		return
	}
	if err := operation.CheckInstance(operation.CallerOf(r.Context()), in); err != nil {
		a.problemFor(r.Context(), err).Write(w)
		return
	}
	a.runIdempotent(called, r, in, next)
}

func (a *API) authorize(to *route, r *http.Request) error {
	key, err := a.authenticate(r)
	if err != nil {
		return err
	}
	operation.RequestInfoOf(r.Context()).Key = key
	if wait := a.limiters.takeToken(key.ID, a.Now(), a.Rate, a.Burst); wait > 0 {
		return operation.TooManyRequests(wait)
	}
	if !key.HasScope(to.scope) {
		return operation.MissingScope(to.scope)
	}
	return nil
}

// readRequest checks path, query, headers and body, in this order, and says everything that
// is wrong with them at once.
func (a *API) readRequest(to *route, r *http.Request, op *huma.Operation, in *operation.RequestContext) error {
	var wrong []fastapi.Violation
	for _, where := range []string{"path", "query", "header"} {
		a.readParams(where, op.Parameters, r, in, &wrong)
	}
	if op.RequestBody != nil {
		if err := a.readBody(to, r, op, in, &wrong); err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return fastapi.ValidationProblem(wrong...)
	}
	return nil
}

func (a *API) readParams(where string, params []*huma.Param, r *http.Request, in *operation.RequestContext, wrong *[]fastapi.Violation) {
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
		clean[p.Name] = a.checker.Check(p.Schema, value, []any{where, locName(where, p.Name)}, wrong)
	}
	operation.CleanExternalID(clean, where, wrong)
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
func (a *API) readBody(to *route, r *http.Request, op *huma.Operation, in *operation.RequestContext, wrong *[]fastapi.Violation) error {
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
	clean := a.checkFields(to, op, value, wrong)
	var err error
	in.Body, err = fastapi.Encode(clean)
	return err
}

// checkFields checks a body field by field, in the order of their declaration, and then
// what should not be there.
func (a *API) checkFields(to *route, op *huma.Operation, value any, wrong *[]fastapi.Violation) map[string]any {
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
	for _, name := range to.fields {
		v, there := given[name]
		switch {
		case there:
			clean[name] = a.checker.Check(to.schema.Properties[name], v, []any{"body", name}, wrong)
		case to.isRequired(name):
			*wrong = append(*wrong, fastapi.MissingField("body", name))
		}
	}
	for _, name := range sortedKeys(given) {
		if _, known := to.schema.Properties[name]; !known {
			*wrong = append(*wrong, fastapi.Violation{Type: "extra_forbidden", Loc: fastapi.AppendLoc([]any{"body"}, name), Msg: "Extra inputs are not permitted"})
		}
	}
	operation.CleanExternalID(clean, "body", wrong)
	return clean
}

// paramText writes a clean parameter as a handler's field reads it.
func paramText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
