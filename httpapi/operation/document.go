package operation

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// An Example contains the JSON bodies of a request and its response in the OpenAPI document, and the
// texts of its error responses.
type Example struct {
	Request, Response string

	BadRequest string // default: that of a body that cannot be read
	Forbidden  string // default: that of a missing scope
	NotFound   string // default: that of the last resource in the path
	Conflict   string // default: that of a request with the same Idempotency-Key that is in progress
}

// IDs in examples.
const (
	ExampleID         = `"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d"`
	ExampleInstanceID = `"01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f"`
)

// IdempotencyKey is the header that makes a request idempotent.
const IdempotencyKey = "Idempotency-Key"

// SchemaPrefix is the prefix of references to schemas of the document.
const SchemaPrefix = "#/components/schemas/"

// Bearer is the name of the security scheme of API keys as bearer tokens. It is in upper case so
// that it sorts before the other schemes, which is the order in which Swagger UI offers them.
const Bearer = "Bearer"

// IdempotencyParam returns the parameter of routes that accept an Idempotency-Key.
func IdempotencyParam() *huma.Param {
	shortest, longest := 1, 255
	return &huma.Param{
		Name: IdempotencyKey,
		In:   "header",
		Description: "Any text that identifies this request. For 24 hours, repeating the request with the same key " +
			"returns the stored response, with the header Idempotency-Replayed, and changes nothing.",
		Schema: &huma.Schema{
			Type: huma.TypeString, MinLength: &shortest, MaxLength: &longest, Pattern: "^[\\x20-\\x7e]*$",
		},
	}
}

func errorResponse(to *Route, status int) *huma.Response {
	r := &huma.Response{Description: http.StatusText(status)}
	schema, example := "Error", any(map[string]any{"detail": errorExample(to, status)})
	if status == http.StatusUnprocessableEntity {
		schema, example = "HTTPValidationError", nil // AddExamples sets it
	}
	r.Content = map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Ref: SchemaPrefix + schema}, Example: example},
	}
	if status == http.StatusTooManyRequests {
		r.Description = "Too Many Requests: the key exceeds its rate_limit_per_second (default 500, bursts of twice " +
			"that), or the key is unknown and more than 20 authentications failed within a minute from the same client " +
			"network (IPv4 address or IPv6 /64). Keys that exist are never affected by failed authentications of others."
		r.Headers = map[string]*huma.Param{
			"Retry-After": {
				Description: "Seconds to wait before the next attempt.",
				Schema:      &huma.Schema{Type: huma.TypeInteger},
			},
		}
	}
	return r
}

// errorExample returns the text of an error response of a route.
func errorExample(to *Route, status int) string {
	switch status {
	case http.StatusBadRequest:
		return cmp.Or(to.Example.BadRequest, "There was an error parsing the body")
	case http.StatusUnauthorized:
		return "Not authenticated"
	case http.StatusForbidden:
		return cmp.Or(to.Example.Forbidden, "Missing scope: "+to.Scope)
	case http.StatusNotFound:
		return cmp.Or(to.Example.NotFound, resourceName(to.Path)+" not found")
	case http.StatusConflict:
		return cmp.Or(to.Example.Conflict, "A request with this Idempotency-Key is still in progress")
	}
	return http.StatusText(status)
}

// resourceName returns the name of the resource that the last parameter of a path identifies.
func resourceName(path string) string {
	i := strings.LastIndexByte(path, '{')
	if i < 0 {
		return "Instance"
	}
	switch parameter, _, _ := strings.Cut(path[i+1:], "}"); parameter {
	case "customer_id":
		return "Customer"
	case "identity_id":
		return "Identity"
	case "invite_id":
		return "Invite"
	case "key_id":
		return "API key"
	}
	return "Instance"
}

func rawExample(text string) any {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// FindOperation returns the operation of a route in the document.
func FindOperation(doc *huma.OpenAPI, to *Route) *huma.Operation {
	item := doc.Paths[to.Path]
	switch to.Method {
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

// FieldDescriptions are the descriptions of the fields of bodies, by the names of the schema and of
// the field in the OpenAPI document.
type FieldDescriptions map[string]map[string]string

// Describe sets the descriptions of the fields of schemas.
func (d FieldDescriptions) Describe(schemas map[string]*huma.Schema) {
	for name, fields := range d {
		for field, property := range schemas[name].Properties {
			property.Description = cmp.Or(fields[field], property.Description)
		}
	}
}

// Extend returns descriptions that several schemas share, with those that one schema has of its own.
// The latter take precedence.
func Extend(shared, own map[string]string) map[string]string {
	merged := maps.Clone(shared)
	maps.Copy(merged, own)
	return merged
}
