package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// A surface is an API with a shape of its own beside the native one, over the same
// store: for programs that were written for another product.
type surface struct {
	prefixes    []string // below which everything is answered in its shape
	authorize   func(a *API, to *route, r *http.Request) error
	formatError func(p *fastapi.Problem) any // the body of an answer that says no

	// What the document says of it.
	errorSchema    string // of its errors
	statuses       []int  // that any of its routes says no with
	security       []map[string][]string
	describeAccess func(to *route) string
}

type surfaceKey struct{}

// surfaceOf gives the surface that is called; nil is the native one.
func surfaceOf(ctx context.Context) *surface {
	s, _ := ctx.Value(surfaceKey{}).(*surface)
	return s
}

// adaptProblem gives p in the shape of the surface.
func (s *surface) adaptProblem(p *fastapi.Problem) *fastapi.Problem {
	if s == nil {
		return p
	}
	own := *p
	if own.Status == http.StatusUnprocessableEntity {
		own.Status = http.StatusBadRequest
	}
	own.Format = s.formatError
	return &own
}

// operationMiddleware is the way into every operation of every surface.
func (a *API) operationMiddleware(ctx huma.Context, next func(huma.Context)) {
	if to := a.routesByID[ctx.Operation().OperationID]; to.surface != nil {
		a.surfaceMiddleware(to, ctx, next)
		return
	}
	a.nativeMiddleware(ctx, next)
}

// surfaceMiddleware is the way into an operation of a surface: who are you, may you, is this
// right?
func (a *API) surfaceMiddleware(to *route, ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	w.Header().Set("Cache-Control", "no-store")
	ctx = huma.WithValue(ctx, surfaceKey{}, to.surface)
	defer writePanicResponse(ctx.Context(), w)
	if err := to.surface.authorize(a, to, r); err != nil {
		a.problemFor(ctx.Context(), err).Write(w)
		return
	}
	in := &operation.RequestContext{BaseContext: ctx, Values: map[string]string{}}
	if err := a.readRequest(to, r, ctx.Operation(), in); err != nil {
		a.problemFor(ctx.Context(), err).Write(w)
		return
	}
	next(in)
}

// writePanicResponse answers for a handler that panicked, in the shape of its surface, when
// nothing was answered yet. The panic goes on to who logs it.
func writePanicResponse(ctx context.Context, w http.ResponseWriter) {
	reason := recover()
	if reason == nil {
		return
	}
	if out, ok := w.(*responseRecorder); ok && out.status == 0 && reason != http.ErrAbortHandler {
		surfaceOf(ctx).adaptProblem(fastapi.StatusProblem(http.StatusInternalServerError)).Write(w)
	}
	panic(reason)
}

// surfaceRoutes is every operation of the surfaces that are offered.
func (a *API) surfaceRoutes() []*route {
	var all []*route
	if a.Users != nil {
		all = append(all, a.userRoutes()...)
	}
	if a.Contacts != nil {
		all = append(all, a.contactRoutes()...)
	}
	return all
}

// distinctSurfaces gives the surfaces of the routes, in their order.
func distinctSurfaces(routes []*route) []*surface {
	var all []*surface
	for _, to := range routes {
		if !slices.Contains(all, to.surface) {
			all = append(all, to.surface)
		}
	}
	return all
}

// mountSurfaces answers for what no route of a surface takes, in its shape.
func (a *API) mountSurfaces(mux *http.ServeMux) {
	for _, s := range distinctSurfaces(a.surfaceRoutes()) {
		for _, folder := range s.prefixes {
			mux.HandleFunc(folder, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "no-store")
				s.adaptProblem(noRouteProblem(mux, r)).Write(w)
			})
		}
	}
}

// surfaceForPath gives the surface in whose shape a path is answered; nil is the native one.
func (a *API) surfaceForPath(path string) *surface {
	for _, s := range distinctSurfaces(a.surfaceRoutes()) {
		if slices.ContainsFunc(s.prefixes, func(folder string) bool { return strings.HasPrefix(path, folder) }) {
			return s
		}
	}
	return nil
}

// humaOperation is what the document says of a route of the surface beyond its request
// and answer.
func (s *surface) humaOperation(to *route) huma.Operation {
	op := huma.Operation{
		OperationID: to.id, Method: to.method, Path: to.path, Summary: to.summary, Tags: []string{to.tag}, Description: s.describeAccess(to), Security: s.security,
		DefaultStatus: to.status, SkipValidateParams: true, SkipValidateBody: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Responses: map[string]*huma.Response{},
	}
	if to.scope != "" {
		op.Extensions = map[string]any{"x-scope": to.scope}
	}
	for _, status := range s.errorStatuses(to) {
		op.Responses[strconv.Itoa(status)] = s.errorResponse(status)
	}
	return op
}

// errorStatuses are the statuses a route of the surface says no with.
func (s *surface) errorStatuses(to *route) []int {
	statuses := slices.Clone(s.statuses)
	if strings.Contains(to.path, "{") || to.traits&mayNotExist != 0 {
		statuses = append(statuses, http.StatusNotFound)
	}
	if to.traits&mayConflict != 0 {
		statuses = append(statuses, http.StatusConflict)
	}
	if to.handler.bodyFields() != nil {
		statuses = append(statuses, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	slices.Sort(statuses)
	return statuses
}

func (s *surface) errorResponse(status int) *huma.Response {
	r := errorResponse(status)
	r.Content = map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: schemaPrefix + s.errorSchema}, Example: s.formatError(fastapi.NewProblem(status, errorExample(status)))}}
	return r
}

// describeSurfaces adds to the document what the surfaces have of their own.
func (a *API) describeSurfaces(doc *huma.OpenAPI) {
	known := doc.Components.Schemas.Map()
	if a.Users != nil {
		known[userSurface().errorSchema] = userErrorSchema()
		doc.Components.SecuritySchemes["agentSecretKey"] = &huma.SecurityScheme{
			Type: "apiKey", In: "header", Name: agentSecretKey, Description: "The agent_secret_key of an instance. It names the instance, and opens this surface alone.",
		}
		doc.Tags = append(doc.Tags, &huma.Tag{Name: tagUsers, Description: "Customers, as conversation users of one instance."})
	}
	if a.Contacts != nil {
		known[contactSurface().errorSchema] = contactErrorSchema()
		doc.Tags = append(doc.Tags, &huma.Tag{Name: tagContacts, Description: "Identities, as contact identities: those of customers and of unknown senders. The same paths are also under /v4."})
	}
}

// surfaceFormats are the formats of texts that only the surfaces know.
func surfaceFormats() map[string]func(string) (string, *fastapi.Violation) {
	return map[string]func(string) (string, *fastapi.Violation){formatWebURL: cleanWebURL, formatContactType: cleanContactType}
}

func surfaceExamples(to map[string]example) map[string]example {
	maps.Copy(to, userExamples())
	maps.Copy(to, contactExamples())
	return to
}
