package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5emb"
)

const schemaPrefix = "#/components/schemas/"

// openAPIConfig is the document before any operation is in it.
func (a *API) openAPIConfig() huma.Config {
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Hydragate", Version: a.version(),
			Description: "A messaging gateway: customers, their identities on every channel, and proof of who is speaking.",
		},
		Tags: []*huma.Tag{
			{Name: "Customers", Description: "People and companies you know."},
			{Name: "Identities", Description: "External accounts on channels, and whose they are."},
			{Name: "Claims", Description: "Proof, by a code read aloud, that the person on a channel is the customer."},
			{Name: "Instances", Description: "Bots: their channels, and the program that answers."},
			{Name: "Channels", Description: "Endpoints of instances, set up with their providers."},
			{Name: "Audit log", Description: "Who did what when. It only grows."},
			{Name: "API keys", Description: "Who may call this API, and what they may do. A key limited to one instance sees that instance alone."},
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry(schemaPrefix, schemaName),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer": {Type: "http", Scheme: "bearer", Description: "An API key."},
				"apiKey": {Type: "apiKey", In: "header", Name: "X-Api-Key", Description: "An API key."},
			},
		},
	}
	if a.StaffIssuer != "" {
		doc.Components.SecuritySchemes["bearer"].Description = "An API key, or a token of staff."
		doc.Components.SecuritySchemes["staff"] = staffScheme(a.StaffIssuer)
	}
	if a.PublicURL != "" {
		doc.Servers = []*huma.Server{{URL: a.PublicURL}}
	}
	return huma.Config{OpenAPI: doc, Formats: map[string]huma.Format{"application/json": jsonFormat()}, DefaultFormat: "application/json"}
}

// staffScheme says where tokens of staff come from.
func staffScheme(issuer string) *huma.SecurityScheme {
	return &huma.SecurityScheme{
		Type: "openIdConnect", OpenIDConnectURL: strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration",
		Description: "A token that the issuer signed for this gateway. The claim hydragate_scopes lists scopes; without it, the claim roles or role: admin, staff, viewer.",
	}
}

func (a *API) version() string {
	if a.Version == "" {
		return "dev"
	}
	return a.Version
}

// humaOperation is what the document says of a route beyond its request and answer.
func (to *route) humaOperation() huma.Operation {
	if to.surface != nil {
		return to.surface.humaOperation(to)
	}
	op := huma.Operation{
		OperationID: to.id, Method: to.method, Path: to.path, Summary: to.summary, Tags: []string{to.tag},
		Description:   "Needs the scope `" + to.scope + "`.",
		Extensions:    map[string]any{"x-scope": to.scope},
		Security:      []map[string][]string{{"bearer": {}}, {"apiKey": {}}},
		DefaultStatus: to.status, SkipValidateParams: true, SkipValidateBody: true, MaxBodyBytes: -1,
		// The body is read by then. A deadline would end calls that wait for a provider.
		BodyReadTimeout: -1,
		Responses:       map[string]*huma.Response{},
	}
	if to.traits&returnsSecret != 0 {
		op.Description += " Not idempotent: each call makes another one. Idempotency-Key is ignored, since a kept answer would be a kept secret."
	}
	if to.acceptsIdempotencyKey() {
		op.Parameters = []*huma.Param{idempotencyParam()}
	}
	for _, status := range to.errorStatuses() {
		op.Responses[strconv.Itoa(status)] = errorResponse(status)
	}
	return op
}

func idempotencyParam() *huma.Param {
	shortest, longest := 1, 255
	return &huma.Param{
		Name: idempotencyKey, In: "header", Description: "For 24 hours the same call with the same key gets the same answer, with the header Idempotency-Replayed, and is worked once.",
		Schema: &huma.Schema{Type: huma.TypeString, MinLength: &shortest, MaxLength: &longest, Pattern: "^[\\x20-\\x7e]*$"},
	}
}

// errorStatuses are the statuses a route says no with.
func (to *route) errorStatuses() []int {
	statuses := []int{401, 403, 422, 429, 500, 503}
	if strings.Contains(to.path, "{") || strings.Contains(to.path, "lookup") || to.id == "create_key" || to.id == "list_unknown_senders" {
		statuses = append(statuses, 404)
	}
	if to.traits&mayConflict != 0 || to.acceptsIdempotencyKey() {
		statuses = append(statuses, 409)
	}
	if to.handler.bodyFields() != nil {
		statuses = append(statuses, 400, 413, 415)
	}
	slices.Sort(statuses)
	return statuses
}

func errorResponse(status int) *huma.Response {
	r := &huma.Response{Description: http.StatusText(status)}
	schema, example := "Error", any(map[string]any{"detail": errorExample(status)})
	if status == http.StatusUnprocessableEntity {
		schema = "HTTPValidationError"
		example = map[string]any{"detail": []any{map[string]any{
			"type": "string_too_short", "loc": []any{"body", "external_id"}, "msg": "String should have at least 1 character", "ctx": map[string]any{"min_length": 1},
		}}}
	}
	r.Content = map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: schemaPrefix + schema}, Example: example}}
	if status == http.StatusTooManyRequests {
		r.Headers = map[string]*huma.Param{"Retry-After": {Description: "Seconds to wait.", Schema: &huma.Schema{Type: huma.TypeInteger}}}
	}
	return r
}

func errorExample(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "There was an error parsing the body"
	case http.StatusUnauthorized:
		return "Not authenticated"
	case http.StatusForbidden:
		return "Missing scope: identities:write"
	case http.StatusNotFound:
		return "Identity not found"
	}
	return http.StatusText(status)
}

// finishDocument adds what is the same for the whole document, and takes out what the library
// added for errors of its own.
func (a *API) finishDocument(doc *huma.OpenAPI) {
	known := doc.Components.Schemas.Map()
	delete(known, "ErrorModel")
	delete(known, "ErrorDetail")
	addErrorSchemas(known)
	a.describeSurfaces(doc)
	a.describeEvents(doc)
	for _, s := range known {
		allowNull(s)
	}
	for _, to := range a.routesByID {
		op := findOperation(doc, to)
		if a.StaffIssuer != "" && to.surface == nil {
			op.Security = append(op.Security, map[string][]string{"staff": {}})
		}
		for _, p := range op.Parameters {
			if p.In == "header" && p.Name == idempotencyKey {
				p.Example = "order-4711"
			}
		}
		to.addExamples(op)
	}
}

func addErrorSchemas(known map[string]*huma.Schema) {
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	known["Error"] = &huma.Schema{Type: huma.TypeObject, Required: []string{"detail"}, Properties: map[string]*huma.Schema{"detail": text()}}
	known["HTTPValidationError"] = &huma.Schema{Type: huma.TypeObject, Required: []string{"detail"}, Properties: map[string]*huma.Schema{
		"detail": {Type: huma.TypeArray, Items: &huma.Schema{Ref: schemaPrefix + "ValidationError"}},
	}}
	known["ValidationError"] = &huma.Schema{Type: huma.TypeObject, Required: []string{"loc", "msg", "type"}, Properties: map[string]*huma.Schema{
		"loc":  {Type: huma.TypeArray, Items: &huma.Schema{AnyOf: []*huma.Schema{text(), {Type: huma.TypeInteger}}}},
		"msg":  text(),
		"type": text(),
		"ctx":  {Type: huma.TypeObject, AdditionalProperties: true, Description: "What the schema allows."},
	}}
}

// allowNull adds null to the values of nullable enums, which by JSON Schema must list
// it.
func allowNull(s *huma.Schema) {
	for _, p := range s.Properties {
		if p.Nullable && p.Enum != nil && !slices.Contains(p.Enum, nil) {
			p.Enum = append(slices.Clone(p.Enum), nil)
		}
	}
}

// addExamples shows a request and its answer.
func (to *route) addExamples(op *huma.Operation) {
	e := examples()[to.id]
	if op.RequestBody != nil {
		op.RequestBody.Content["application/json"].Example = rawExample(e.request)
	}
	if answer := op.Responses[strconv.Itoa(to.status)]; answer != nil && answer.Content != nil {
		answer.Content["application/json"].Example = rawExample(e.response)
	}
}

func rawExample(text string) any {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// findOperation finds a route in the document.
func findOperation(doc *huma.OpenAPI, to *route) *huma.Operation {
	item := doc.Paths[to.path]
	switch to.method {
	case http.MethodGet:
		return item.Get
	case http.MethodPost:
		return item.Post
	case http.MethodPatch:
		return item.Patch
	case http.MethodPut:
		return item.Put
	default:
		return item.Delete
	}
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// schemaName names a Go type in the document: customerAnswer is Customer there.
func schemaName(t reflect.Type, hint string) string {
	return strings.ReplaceAll(huma.DefaultSchemaNamer(t, hint), "Response", "")
}

// mountDocs serves the OpenAPI document, and a page to browse it that loads nothing
// from anywhere else.
func (a *API) mountDocs(mux *http.ServeMux, doc *huma.OpenAPI) {
	text, err := json.Marshal(doc)
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			a.problemFor(r.Context(), err).Write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	})
	docs := v5emb.New("Hydragate", "/openapi.json", "/docs/")
	policy := docsPolicy(docs)
	page := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		docs.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /docs", page)
	mux.HandleFunc("GET /docs/", page)
}

// docsPolicy allows the page its own scripts, each by its hash, and nothing else.
func docsPolicy(docs http.Handler) string {
	r, _ := http.NewRequest(http.MethodGet, "/docs/", nil) // a constant URL: cannot fail
	page := &responseBuffer{header: http.Header{}}
	docs.ServeHTTP(page, r)
	scripts := []string{"'self'"}
	for _, m := range inlineScript.FindAllSubmatch(page.body.Bytes(), -1) {
		sum := sha256.Sum256(m[1])
		scripts = append(scripts, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src " +
		strings.Join(scripts, " ") + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// responseBuffer is a page that goes nowhere.
type responseBuffer struct {
	header http.Header
	body   bytes.Buffer
}

func (k *responseBuffer) Header() http.Header { return k.header }

func (k *responseBuffer) WriteHeader(int) {}

func (k *responseBuffer) Write(b []byte) (int, error) { return k.body.Write(b) }
