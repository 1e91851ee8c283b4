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
)

// A surface is an API with a shape of its own beside the native one, over the same
// store: for programs that were written for another product.
type surface struct {
	folders []string // below which everything is answered in its shape
	letIn   func(a *API, to *route, r *http.Request) error
	say     func(p *problem) any // the body of an answer that says no

	// What the document says of it.
	schema   string // of its errors
	statuses []int  // that any of its routes says no with
	security []map[string][]string
	needs    func(to *route) string
}

type surfaceKey struct{}

// surfaceOf gives the surface that is called; nil is the native one.
func surfaceOf(ctx context.Context) *surface {
	s, _ := ctx.Value(surfaceKey{}).(*surface)
	return s
}

// shaped gives p in the shape of the surface.
func (s *surface) shaped(p *problem) *problem {
	if s == nil {
		return p
	}
	own := *p
	if own.status == http.StatusUnprocessableEntity {
		own.status = http.StatusBadRequest
	}
	own.shape = s.say
	return &own
}

// admitAny is the way into every operation of every surface.
func (a *API) admitAny(ctx huma.Context, next func(huma.Context)) {
	if to := a.byID[ctx.Operation().OperationID]; to.surface != nil {
		a.admitTo(to, ctx, next)
		return
	}
	a.admit(ctx, next)
}

// admitTo is the way into an operation of a surface: who are you, may you, is this
// right?
func (a *API) admitTo(to *route, ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	w.Header().Set("Cache-Control", "no-store")
	ctx = huma.WithValue(ctx, surfaceKey{}, to.surface)
	defer unexpected(ctx.Context(), w)
	if err := to.surface.letIn(a, to, r); err != nil {
		a.fail(ctx.Context(), err).write(w)
		return
	}
	in := &admitted{inner: ctx, values: map[string]string{}}
	if err := a.read(to, r, ctx.Operation(), in); err != nil {
		a.fail(ctx.Context(), err).write(w)
		return
	}
	next(in)
}

// unexpected answers for a handler that panicked, in the shape of its surface, when
// nothing was answered yet. The panic goes on to who logs it.
func unexpected(ctx context.Context, w http.ResponseWriter) {
	reason := recover()
	if reason == nil {
		return
	}
	if out, ok := w.(*counted); ok && out.status == 0 && reason != http.ErrAbortHandler {
		surfaceOf(ctx).shaped(plain(http.StatusInternalServerError)).write(w)
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

// surfaces gives the surfaces of the routes, in their order.
func surfaces(routes []*route) []*surface {
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
	for _, s := range surfaces(a.surfaceRoutes()) {
		for _, folder := range s.folders {
			mux.HandleFunc(folder, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "no-store")
				s.shaped(nowhere(mux, r)).write(w)
			})
		}
	}
}

// surfaceAt gives the surface in whose shape a path is answered; nil is the native one.
func (a *API) surfaceAt(path string) *surface {
	for _, s := range surfaces(a.surfaceRoutes()) {
		if slices.ContainsFunc(s.folders, func(folder string) bool { return strings.HasPrefix(path, folder) }) {
			return s
		}
	}
	return nil
}

// operation is what the document says of a route of the surface beyond its request
// and answer.
func (s *surface) operation(to *route) huma.Operation {
	op := huma.Operation{
		OperationID: to.id, Method: to.method, Path: to.path, Summary: to.summary, Tags: []string{to.tag}, Description: s.needs(to), Security: s.security,
		DefaultStatus: to.status, SkipValidateParams: true, SkipValidateBody: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Responses: map[string]*huma.Response{},
	}
	if to.scope != "" {
		op.Extensions = map[string]any{"x-scope": to.scope}
	}
	for _, status := range s.errors(to) {
		op.Responses[strconv.Itoa(status)] = s.response(status)
	}
	return op
}

// errors are the statuses a route of the surface says no with.
func (s *surface) errors(to *route) []int {
	statuses := slices.Clone(s.statuses)
	if strings.Contains(to.path, "{") || to.traits&mayMiss != 0 {
		statuses = append(statuses, http.StatusNotFound)
	}
	if to.traits&conflicts != 0 {
		statuses = append(statuses, http.StatusConflict)
	}
	if to.answer.bodyFields() != nil {
		statuses = append(statuses, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	slices.Sort(statuses)
	return statuses
}

func (s *surface) response(status int) *huma.Response {
	r := errorResponse(status)
	r.Content = map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: schemas + s.schema}, Example: s.say(refuse(status, errorExample(status)))}}
	return r
}

// describeSurfaces adds to the document what the surfaces have of their own.
func (a *API) describeSurfaces(doc *huma.OpenAPI) {
	known := doc.Components.Schemas.Map()
	if a.Users != nil {
		known[userSurface().schema] = userErrorSchema()
		doc.Components.SecuritySchemes["agentSecretKey"] = &huma.SecurityScheme{
			Type: "apiKey", In: "header", Name: agentSecretKey, Description: "The agent_secret_key of an instance. It names the instance, and opens this surface alone.",
		}
		doc.Tags = append(doc.Tags, &huma.Tag{Name: tagUsers, Description: "Customers, as conversation users of one instance."})
	}
	if a.Contacts != nil {
		known[contactSurface().schema] = contactErrorSchema()
		doc.Tags = append(doc.Tags, &huma.Tag{Name: tagContacts, Description: "Identities, as contact identities: those of customers and of unknown senders. The same paths are also under /v4."})
	}
}

// surfaceFormats are the formats of texts that only the surfaces know.
func surfaceFormats() map[string]func(string) (string, *violation) {
	return map[string]func(string) (string, *violation){formatWebURL: cleanWebURL, formatContactType: cleanContactType}
}

func surfaceExamples(to map[string]example) map[string]example {
	maps.Copy(to, userExamples())
	maps.Copy(to, contactExamples())
	return to
}

// withoutPrefix is what a violation says, for surfaces with words of their own.
func (v violation) withoutPrefix() string { return strings.TrimPrefix(v.Msg, "Value error, ") }

// field names what a violation is about, as the caller wrote it.
func (v violation) field() string {
	var parts []string
	for _, p := range v.Loc[1:] {
		if s, ok := p.(string); ok {
			parts = append(parts, s)
		} else if n, ok := p.(int); ok && v.Type != "json_invalid" {
			parts = append(parts, strconv.Itoa(n))
		}
	}
	return strings.Join(parts, ".")
}

// sentence tells a problem in one sentence: of a request that is wrong, all that is
// wrong with it.
func (p *problem) sentence() string {
	if p.violations == nil {
		return p.detail
	}
	const most = 5
	var said []string
	for _, v := range p.violations[:min(most, len(p.violations))] {
		if field := v.field(); field != "" {
			said = append(said, field+": "+v.withoutPrefix())
		} else {
			said = append(said, v.withoutPrefix())
		}
	}
	return strings.Join(said, "; ")
}
