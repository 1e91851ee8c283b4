package operation

import (
	"context"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
)

// A Route is an operation: its method and path, the scope it requires, and its handler. Routing,
// authorization and the OpenAPI document are derived from it.
type Route struct {
	ID          string
	Method      string
	Path        string
	Scope       string
	Tag         string
	Summary     string
	Description string
	Status      int
	Handler     Handler
	Traits      Traits
	Surface     *Surface // nil for the native API; set by API
	Example     Example

	// Set by SetBodySchema.
	Schema *huma.Schema // of the body; nil if there is none
	Fields []string     // of the body, in the order of their declaration
}

// Traits are properties of a route that its method and path do not determine.
type Traits uint8

// Traits of routes.
const (
	MayConflict   Traits = 1 << iota // may respond with 409
	ReturnsSecret                    // the response must not be stored, so that Idempotency-Key is ignored
	MayNotExist                      // may respond with 404 although the path has no parameter
)

// HumaOperation returns the operation of the route in the OpenAPI document, without its request and
// response bodies.
func (to *Route) HumaOperation() huma.Operation {
	if to.Surface != nil {
		return to.Surface.humaOperation(to)
	}
	op := huma.Operation{
		OperationID: to.ID, Method: to.Method, Path: to.Path, Summary: to.Summary, Tags: []string{to.Tag},
		Description:   to.Description + "\n\nRequires the scope `" + to.Scope + "`.",
		Extensions:    map[string]any{"x-scope": to.Scope},
		Security:      []map[string][]string{{Bearer: {}}, {"apiKey": {}}},
		DefaultStatus: to.Status, SkipValidateParams: true, SkipValidateBody: true, MaxBodyBytes: -1,
		// The Reader has read the body. A deadline would abort requests that wait for a provider.
		BodyReadTimeout: -1,
		Responses:       map[string]*huma.Response{},
	}
	if to.Traits&ReturnsSecret != 0 {
		op.Description += " Idempotency-Key is ignored, because the response contains a secret: each call creates a new one."
	}
	if to.AcceptsIdempotencyKey() {
		op.Parameters = []*huma.Param{IdempotencyParam()}
	}
	for _, status := range to.ErrorStatuses() {
		op.Responses[strconv.Itoa(status)] = errorResponse(to, status)
	}
	return op
}

// ErrorStatuses returns the error statuses of a route of the native API, in order.
func (to *Route) ErrorStatuses() []int {
	statuses := []int{401, 403, 422, 429, 500, 503}
	if strings.Contains(to.Path, "{") || to.Traits&MayNotExist != 0 {
		statuses = append(statuses, 404)
	}
	if to.Traits&MayConflict != 0 || to.AcceptsIdempotencyKey() {
		statuses = append(statuses, 409)
	}
	if to.Handler.bodyFields() != nil {
		statuses = append(statuses, 400, 413, 415)
	}
	slices.Sort(statuses)
	return statuses
}

// AddExamples adds the example of the route to its operation in the document.
func (to *Route) AddExamples(op *huma.Operation, c *fastapi.Checker) {
	e := to.Example
	to.addViolationExample(op, c)
	if op.RequestBody != nil {
		op.RequestBody.Content["application/json"].Example = rawExample(e.Request)
	}
	if resp := op.Responses[strconv.Itoa(to.Status)]; resp != nil && resp.Content != nil {
		resp.Content["application/json"].Example = rawExample(e.Response)
	}
}

// AcceptsIdempotencyKey reports whether the header Idempotency-Key has an effect.
func (to *Route) AcceptsIdempotencyKey() bool {
	return to.Method != http.MethodGet && to.Traits&ReturnsSecret == 0 && to.Surface == nil
}

func (to *Route) isRequired(field string) bool { return slices.Contains(to.Schema.Required, field) }

// A Handler registers a function as the handler of an operation. Handle and HandleStream create
// handlers.
type Handler struct {
	request reflect.Type
	// Register adds the operation to the API.
	Register func(rs *Responder, api huma.API, op huma.Operation)
}

// NoBody is a response without a body.
type NoBody struct{}

// Handle returns a handler that calls f with the checked request. I and O are the input and output
// types of package huma.
func Handle[I, O any](f func(context.Context, *I) (*O, error)) Handler {
	return Handler{reflect.TypeFor[I](), func(rs *Responder, api huma.API, op huma.Operation) {
		huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := f(ctx, in)
			if err != nil {
				return nil, rs.ProblemFor(ctx, err)
			}
			return out, nil
		})
	}}
}

// bodyFields returns the names of the fields of the request body in the order of their declaration,
// or nil if there is no body.
func (h Handler) bodyFields() []string {
	body, ok := h.request.FieldByName("Body")
	if !ok {
		return nil
	}
	t := body.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// SetBodySchema sets the schema and the fields of the request body from the document.
func (to *Route) SetBodySchema(doc *huma.OpenAPI) {
	op := FindOperation(doc, to)
	if op.RequestBody == nil {
		return
	}
	to.Fields = to.Handler.bodyFields()
	to.Schema = op.RequestBody.Content["application/json"].Schema
	if to.Schema.Ref != "" {
		to.Schema = doc.Components.Schemas.SchemaFromRef(to.Schema.Ref)
	}
	// The document changes its schemas later, but requests are validated against these.
	own := *to.Schema
	own.Properties = maps.Clone(own.Properties)
	to.Schema = &own
}

// addViolationExample sets the example of the response to a request that is not valid.
func (to *Route) addViolationExample(op *huma.Operation, c *fastapi.Checker) {
	problem := to.Surface.AdaptProblem(fastapi.ValidationProblem(to.exampleViolation(op, c)))
	resp := op.Responses[strconv.Itoa(problem.Status)]
	if resp != nil && to.Example.BadRequest == "" {
		resp.Content["application/json"].Example = problem
	}
}

// exampleViolation returns a violation that a request to the route can have: a missing field, or an
// invalid parameter.
func (to *Route) exampleViolation(op *huma.Operation, c *fastapi.Checker) fastapi.Violation {
	if to.Schema != nil && len(to.Schema.Required) > 0 {
		return fastapi.MissingField("body", to.Schema.Required[0])
	}
	for _, p := range op.Parameters {
		if p.Required && p.In == "query" {
			return fastapi.MissingField("query", p.Name)
		}
		for _, value := range []string{"123", "0", strings.Repeat("x", 256)} {
			var violations []fastapi.Violation
			if c.Check(p.Schema, value, []any{p.In, locName(p.In, p.Name)}, &violations); len(violations) > 0 {
				return violations[0]
			}
		}
	}
	return extraForbidden([]any{"body", "color"})
}

// SortedKeys returns the keys of a map in order.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
