//go:build unix

package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// An APIRequest is a request of an operation.
type APIRequest struct {
	Method, Path, Body string
	Header             http.Header
}

// An APIOperation is an operation of the OpenAPI document.
type APIOperation struct {
	ID, Method, Path string
	Scope            string
	Surface          string // native, global or external
	Status           int
	Params           []APIParameter
	Body             *APISchema // nil if there is none
	example          json.RawMessage
}

// An APIParameter is a parameter of an operation.
type APIParameter struct {
	Name     string     `json:"name"`
	In       string     `json:"in"`
	Required bool       `json:"required"`
	Schema   *APISchema `json:"schema"`
}

// An APISchema is a schema of the document.
type APISchema struct {
	Ref        string                `json:"$ref"`
	Type       any                   `json:"type"`
	Format     string                `json:"format"`
	Enum       []any                 `json:"enum"`
	Properties map[string]*APISchema `json:"properties"`
	Items      *APISchema            `json:"items"`
}

// ReadOperations returns all operations of the OpenAPI document of a gateway, sorted by ID.
func ReadOperations(t *testing.T, base string) []*APIOperation {
	t.Helper()
	res, err := http.Get(base + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	type media struct {
		Schema  *APISchema      `json:"schema"`
		Example json.RawMessage `json:"example"`
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID          string         `json:"operationId"`
			Scope       string         `json:"x-scope"`
			Parameters  []APIParameter `json:"parameters"`
			RequestBody *struct {
				Content map[string]media `json:"content"`
			} `json:"requestBody"`
			Responses map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]*APISchema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	var ops []*APIOperation
	for path, methods := range doc.Paths {
		for method, o := range methods {
			op := &APIOperation{
				ID:      o.ID,
				Method:  strings.ToUpper(method),
				Path:    path,
				Scope:   o.Scope,
				Surface: surfaceOf(t, path),
				Params:  o.Parameters,
			}
			for status := range o.Responses {
				if strings.HasPrefix(status, "2") {
					_, _ = fmt.Sscan(status, &op.Status)
				}
			}
			if o.RequestBody != nil {
				m := o.RequestBody.Content["application/json"]
				op.Body, op.example = m.Schema, m.Example
				if name, ok := strings.CutPrefix(m.Schema.Ref, "#/components/schemas/"); ok {
					op.Body = doc.Components.Schemas[name]
				}
			}
			ops = append(ops, op)
		}
	}
	if len(ops) < 50 {
		t.Fatalf("%d operations in the document, want at least 50", len(ops))
	}
	slices.SortFunc(ops, func(a, b *APIOperation) int { return strings.Compare(a.ID, b.ID) })
	return ops
}

func surfaceOf(t *testing.T, path string) string {
	t.Helper()
	first, _, _ := strings.Cut(path[1:], "/")
	surface, known := map[string]string{"v1": "native", "external": "external", "global": "global", "v4": "global"}[first]
	if !known {
		t.Fatalf("unknown API surface of %s", path)
	}
	return surface
}

// SortedKeys returns the keys of m in order.
func SortedKeys[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Param returns the parameter with a name, or nil.
func (op *APIOperation) Param(name string) *APIParameter {
	for i := range op.Params {
		if op.Params[i].Name == name {
			return &op.Params[i]
		}
	}
	return nil
}
