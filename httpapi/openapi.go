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
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5emb"

	"hydragate/httpapi/operation"
)

// openAPIConfig returns the configuration of huma and the document without operations.
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
			{
				Name:        "API keys",
				Description: "Who may call this API, and what they may do. A key limited to one instance sees that instance alone.",
			},
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry(operation.SchemaPrefix, schemaName),
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
	return huma.Config{
		OpenAPI: doc, Formats: map[string]huma.Format{"application/json": jsonFormat()},
		DefaultFormat: "application/json",
	}
}

// staffScheme returns the security scheme of staff tokens.
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

// finishDocument adds error schemas, surfaces, events and examples to the document, and removes the
// error schemas of huma.
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
		op := operation.FindOperation(doc, to)
		if a.StaffIssuer != "" && to.Surface == nil {
			op.Security = append(op.Security, map[string][]string{"staff": {}})
		}
		for _, p := range op.Parameters {
			if p.In == "header" && p.Name == operation.IdempotencyKey {
				p.Example = "order-4711"
			}
		}
		to.AddExamples(op)
	}
}

func addErrorSchemas(known map[string]*huma.Schema) {
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	known["Error"] = &huma.Schema{
		Type: huma.TypeObject, Required: []string{"detail"}, Properties: map[string]*huma.Schema{"detail": text()},
	}
	known["HTTPValidationError"] = &huma.Schema{Type: huma.TypeObject, Required: []string{"detail"}, Properties: map[string]*huma.Schema{
		"detail": {Type: huma.TypeArray, Items: &huma.Schema{Ref: operation.SchemaPrefix + "ValidationError"}},
	}}
	known["ValidationError"] = &huma.Schema{Type: huma.TypeObject, Required: []string{"loc", "msg", "type"}, Properties: map[string]*huma.Schema{
		"loc":  {Type: huma.TypeArray, Items: &huma.Schema{AnyOf: []*huma.Schema{text(), {Type: huma.TypeInteger}}}},
		"msg":  text(),
		"type": text(),
		"ctx":  {Type: huma.TypeObject, AdditionalProperties: true, Description: "What the schema allows."},
	}}
}

// allowNull adds null to the values of nullable enums, as JSON Schema requires.
func allowNull(s *huma.Schema) {
	for _, p := range s.Properties {
		if p.Nullable && p.Enum != nil && !slices.Contains(p.Enum, nil) {
			p.Enum = append(slices.Clone(p.Enum), nil)
		}
	}
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// schemaName returns the name of a Go type in the document, for example Customer for
// customerResponse.
func schemaName(t reflect.Type, hint string) string {
	return strings.ReplaceAll(huma.DefaultSchemaNamer(t, hint), "Response", "")
}

// mountDocs serves the OpenAPI document and a page to browse it, which loads nothing from other
// hosts.
func (a *API) mountDocs(mux *http.ServeMux, doc *huma.OpenAPI) {
	document, err := json.Marshal(doc)
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			a.responder.ProblemFor(r.Context(), err).Write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
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

// docsPolicy returns the Content-Security-Policy of the page. It allows the inline scripts of the
// page by their hash.
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

// A responseBuffer is a ResponseWriter that buffers the body.
type responseBuffer struct {
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (b *responseBuffer) Header() http.Header { return b.header }

// WriteHeader implements http.ResponseWriter.
func (b *responseBuffer) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (b *responseBuffer) Write(p []byte) (int, error) { return b.body.Write(p) }

// An EventType describes a webhook that the gateway sends to applications. It is listed in the
// OpenAPI document.
type EventType struct {
	Type, Summary string
	Payload       any // example of the request body; its type determines the schema
	Response      any // example of the response body; nil if the response body is ignored
}

// describeEvents adds the webhooks to the document.
func (a *API) describeEvents(doc *huma.OpenAPI) {
	if len(a.Events) == 0 {
		return
	}
	doc.Tags = append(doc.Tags, &huma.Tag{
		Name:        "Events",
		Description: "What is posted to the agent_url of an instance, signed by the Standard Webhooks specification. Fields may be added.",
	})
	doc.Webhooks = map[string]*huma.PathItem{}
	for _, e := range a.Events {
		accepted := &huma.Response{Description: "The event is accepted."}
		if e.Response != nil {
			accepted.Description = "The event is taken, and the replies, if there are any, are sent."
			accepted.Content = exampleOf(doc, e.Response)
		}
		doc.Webhooks[e.Type] = &huma.PathItem{Post: &huma.Operation{
			OperationID: e.Type, Summary: e.Summary, Tags: []string{"Events"},
			Description: "The events of a conversation come one after the other. An event may come twice: its webhook-id is the same.",
			Parameters: []*huma.Param{
				signatureHeader("webhook-id", "Names the event."),
				signatureHeader("webhook-timestamp", "When this try was made, in seconds since 1970."),
				signatureHeader("webhook-signature", "One signature for each secret of the instance that is good now."),
			},
			RequestBody: &huma.RequestBody{Required: true, Content: exampleOf(doc, e.Payload)},
			Responses: map[string]*huma.Response{
				"2XX": accepted,
				"410": {Description: "Nothing is posted any more, until the agent_url is set again."},
				"default": {
					Description: "The event is posted again for 24 hours, with growing pauses. Retry-After is honoured.",
				},
			},
		}}
	}
}

func signatureHeader(name, meaning string) *huma.Param {
	return &huma.Param{
		Name: name, In: "header", Required: true, Description: meaning, Schema: &huma.Schema{Type: huma.TypeString},
	}
}

// exampleOf returns the schema of the type of v, with v as the example.
func exampleOf(doc *huma.OpenAPI, v any) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{
		"application/json": {Schema: doc.Components.Schemas.Schema(reflect.TypeOf(v), true, ""), Example: v},
	}
}
