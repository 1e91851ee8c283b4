package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hydragate/httpapi/operation"
)

// operationMiddleware calls the middleware of the surface of the operation.
func (a *API) operationMiddleware(ctx huma.Context, next func(huma.Context)) {
	if to := a.routesByID[ctx.Operation().OperationID]; to.Surface != nil {
		a.surfaceMiddleware(to, ctx, next)
		return
	}
	a.nativeMiddleware(ctx, next)
}

// surfaceMiddleware authorizes and checks requests to operations of a surface.
func (a *API) surfaceMiddleware(to *operation.Route, ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	w.Header().Set("Cache-Control", "no-store")
	ctx = huma.WithContext(ctx, operation.WithSurface(ctx.Context(), to.Surface))
	authorize := to.Surface.Authorize
	if authorize == nil {
		authorize = a.authorize
	}
	if err := authorize(to, r); err != nil {
		a.responder.ProblemFor(ctx.Context(), err).Write(w)
		return
	}
	in := &operation.RequestContext{BaseContext: ctx, Values: map[string]string{}}
	if err := a.reader.Read(to, r, ctx.Operation(), in); err != nil {
		a.responder.ProblemFor(ctx.Context(), err).Write(w)
		return
	}
	next(in)
}

// surfaceRoutes returns the routes of all surfaces.
func (a *API) surfaceRoutes() []*operation.Route {
	var all []*operation.Route
	for _, s := range a.Surfaces {
		for _, to := range s.Routes {
			to.Surface = s
		}
		all = append(all, s.Routes...)
	}
	return all
}

// mountSurfaces responds to requests below the prefixes of a surface that match no route, in the
// format of the surface.
func (a *API) mountSurfaces(mux *http.ServeMux) {
	for _, s := range a.Surfaces {
		for _, prefix := range s.Prefixes {
			mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "no-store")
				s.AdaptProblem(noRouteProblem(mux, r)).Write(w)
			})
		}
	}
}

// surfaceForPath returns the surface that determines the format of responses for a path, or nil for
// the native API.
func (a *API) surfaceForPath(path string) *operation.Surface {
	for _, s := range a.Surfaces {
		if slices.ContainsFunc(s.Prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			return s
		}
	}
	return nil
}

// describeSurfaces adds the error schemas, tags and security schemes of the surfaces to the
// document.
func (a *API) describeSurfaces(doc *huma.OpenAPI) {
	for _, s := range a.Surfaces {
		doc.Components.Schemas.Map()[s.ErrorSchema] = s.Schema
		s.Descriptions.Describe(doc.Components.Schemas.Map())
		maps.Copy(doc.Components.SecuritySchemes, s.SecuritySchemes)
		doc.Tags = append(doc.Tags, s.Tag)
	}
}
