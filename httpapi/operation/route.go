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
)

// HumaOperation is what the document says of a route beyond its request and answer.
func (to *Route) HumaOperation() huma.Operation {
	if to.Surface != nil {
		return to.Surface.humaOperation(to)
	}
	op := huma.Operation{
		OperationID: to.ID, Method: to.Method, Path: to.Path, Summary: to.Summary, Tags: []string{to.Tag},
		Description:   "Needs the scope `" + to.Scope + "`.",
		Extensions:    map[string]any{"x-scope": to.Scope},
		Security:      []map[string][]string{{"bearer": {}}, {"apiKey": {}}},
		DefaultStatus: to.Status, SkipValidateParams: true, SkipValidateBody: true, MaxBodyBytes: -1,
		// The body is read by then. A deadline would end calls that wait for a provider.
		BodyReadTimeout: -1,
		Responses:       map[string]*huma.Response{},
	}
	if to.Traits&ReturnsSecret != 0 {
		op.Description += " Not idempotent: each call makes another one. Idempotency-Key is ignored, since a kept answer would be a kept secret."
	}
	if to.AcceptsIdempotencyKey() {
		op.Parameters = []*huma.Param{IdempotencyParam()}
	}
	for _, status := range to.ErrorStatuses() {
		op.Responses[strconv.Itoa(status)] = errorResponse(status)
	}
	return op
}

// ErrorStatuses are the statuses a route says no with.
func (to *Route) ErrorStatuses() []int {
	statuses := []int{401, 403, 422, 429, 500, 503}
	if strings.Contains(to.Path, "{") || strings.Contains(to.Path, "lookup") || to.ID == "create_key" || to.ID == "list_unknown_senders" {
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

// AddExamples shows a request and its answer.
func (to *Route) AddExamples(op *huma.Operation) {
	e := to.Example
	if op.RequestBody != nil {
		op.RequestBody.Content["application/json"].Example = rawExample(e.Request)
	}
	if answer := op.Responses[strconv.Itoa(to.Status)]; answer != nil && answer.Content != nil {
		answer.Content["application/json"].Example = rawExample(e.Response)
	}
}

// A Route is one operation: who may call it, and what answers. Routes, rights and
// the OpenAPI document all come from the table below.
type Route struct {
	ID      string
	Method  string
	Path    string
	Scope   string
	Tag     string
	Summary string
	Status  int
	Handler Handler
	Traits  Traits
	Surface *Surface // nil: the native API
	Example Example

	Schema *huma.Schema // of the body; nil when there is none
	Fields []string     // of the body, in the order of their declaration
}

// Traits are properties of a route that its method and path do not determine.
type Traits uint8

const (
	MayConflict   Traits = 1 << iota // may respond with 409
	ReturnsSecret                    // the response must not be stored, so that Idempotency-Key is ignored
	MayNotExist                      // may respond with 404 although the path has no parameter
)

// AcceptsIdempotencyKey reports whether a call takes an Idempotency-Key.
func (to *Route) AcceptsIdempotencyKey() bool {
	return to.Method != http.MethodGet && to.Traits&ReturnsSecret == 0 && to.Surface == nil
}

func (to *Route) isRequired(field string) bool { return slices.Contains(to.Schema.Required, field) }

// A Handler is a function of a request and its answer, ready to be registered.
type Handler struct {
	request  reflect.Type
	Register func(rs *Responder, api huma.API, op huma.Operation)
}

// NoBody is an answer, or a request, without a word.
type NoBody struct{}

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

// bodyFields gives the names of the fields of a request's body, in the order in which
// they were declared.
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

// SetBodySchema takes from the document what a body of the route must be.
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
}

func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
