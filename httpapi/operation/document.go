package operation

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// An Example contains the JSON bodies of a request and its response in the OpenAPI document.
type Example struct{ Request, Response string }

// IDs in examples.
const (
	ExampleID         = `"01930f6e-5c1a-7b3e-9a54-0c1f6a1b2c3d"`
	ExampleInstanceID = `"01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f"`
)

// IdempotencyKey is the header that makes a request idempotent.
const IdempotencyKey = "Idempotency-Key"

// SchemaPrefix is the prefix of references to schemas of the document.
const SchemaPrefix = "#/components/schemas/"

// IdempotencyParam returns the parameter of routes that accept an Idempotency-Key.
func IdempotencyParam() *huma.Param {
	shortest, longest := 1, 255
	return &huma.Param{
		Name:        IdempotencyKey,
		In:          "header",
		Description: "For 24 hours the same call with the same key gets the same answer, with the header Idempotency-Replayed, and is worked once.",
		Schema: &huma.Schema{
			Type: huma.TypeString, MinLength: &shortest, MaxLength: &longest, Pattern: "^[\\x20-\\x7e]*$",
		},
	}
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
	r.Content = map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Ref: SchemaPrefix + schema}, Example: example},
	}
	if status == http.StatusTooManyRequests {
		r.Headers = map[string]*huma.Param{
			"Retry-After": {Description: "Seconds to wait.", Schema: &huma.Schema{Type: huma.TypeInteger}},
		}
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
