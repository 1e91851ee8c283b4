package operation

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
)

// A Surface is an API in the format of another product, for applications that were written for that
// product. It serves the same data as the native API.
type Surface struct {
	Routes   []*Route
	Prefixes []string // path prefixes below which all responses have the format of the surface

	// Authorize authenticates and authorizes a request. If nil, API keys and scopes apply as in the
	// native API.
	Authorize func(to *Route, r *http.Request) error
	// FormatError returns the body of an error response.
	FormatError func(p *fastapi.Problem) any
	// Formats are the string formats that only this surface uses, by name.
	Formats map[string]func(string) (string, *fastapi.Violation)

	// The OpenAPI document.

	Tag             *huma.Tag
	ErrorSchema     string       // name of Schema
	Schema          *huma.Schema // of error bodies
	ErrorStatuses   []int        // that every route may return
	Security        []map[string][]string
	SecuritySchemes map[string]*huma.SecurityScheme
	DescribeAccess  func(to *Route) string
	Descriptions    FieldDescriptions
}

type surfaceKey struct{}

// WithSurface returns a context for a request to a surface.
func WithSurface(ctx context.Context, s *Surface) context.Context {
	return context.WithValue(ctx, surfaceKey{}, s)
}

// SurfaceOf returns the surface that a request is for, or nil if it is for the native API.
func SurfaceOf(ctx context.Context) *Surface {
	s, _ := ctx.Value(surfaceKey{}).(*Surface)
	return s
}

// AdaptProblem returns p in the format of the surface. It returns p if s is nil.
func (s *Surface) AdaptProblem(p *fastapi.Problem) *fastapi.Problem {
	if s == nil {
		return p
	}
	adapted := *p
	if adapted.Status == http.StatusUnprocessableEntity {
		adapted.Status = http.StatusBadRequest
	}
	adapted.Format = s.FormatError
	return &adapted
}

// humaOperation returns the operation of a route in the OpenAPI document, without its request and
// response bodies.
func (s *Surface) humaOperation(to *Route) huma.Operation {
	op := huma.Operation{
		OperationID:        to.ID,
		Method:             to.Method,
		Path:               to.Path,
		Summary:            to.Summary,
		Tags:               []string{to.Tag},
		Description:        to.Description + "\n\n" + s.DescribeAccess(to),
		Security:           s.Security,
		DefaultStatus:      to.Status,
		SkipValidateParams: true,
		SkipValidateBody:   true,
		MaxBodyBytes:       -1,
		BodyReadTimeout:    -1,
		Responses:          map[string]*huma.Response{},
	}
	if to.Scope != "" {
		op.Extensions = map[string]any{"x-scope": to.Scope}
	}
	for _, status := range s.RouteErrorStatuses(to) {
		op.Responses[strconv.Itoa(status)] = s.errorResponse(to, status)
	}
	return op
}

// RouteErrorStatuses returns the error statuses of a route of the surface, in order.
func (s *Surface) RouteErrorStatuses(to *Route) []int {
	statuses := slices.Clone(s.ErrorStatuses)
	if strings.Contains(to.Path, "{") || to.Traits&MayNotExist != 0 {
		statuses = append(statuses, http.StatusNotFound)
	}
	if to.Traits&MayConflict != 0 {
		statuses = append(statuses, http.StatusConflict)
	}
	if to.Handler.bodyFields() != nil {
		statuses = append(statuses, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	slices.Sort(statuses)
	return statuses
}

func (s *Surface) errorResponse(to *Route, status int) *huma.Response {
	r := errorResponse(to, status)
	r.Content = map[string]*huma.MediaType{
		"application/json": {
			Schema:  &huma.Schema{Ref: SchemaPrefix + s.ErrorSchema},
			Example: s.FormatError(fastapi.NewProblem(status, errorExample(to, status))),
		},
	}
	return r
}
