package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A call is one request of an operation.
type APIRequest struct {
	Method, Path, Body string
	Header             http.Header
}

// An APIOperation is an operation as the document describes it.
type APIOperation struct {
	ID, Method, Path string
	Scope            string
	Surface          string // native, global or external
	Status           int
	Params           []APIParameter
	Body             *APISchema // nil: it takes none
	example          json.RawMessage
}

type APIParameter struct {
	Name     string     `json:"name"`
	In       string     `json:"in"`
	Required bool       `json:"required"`
	Schema   *APISchema `json:"schema"`
}

type APISchema struct {
	Ref        string                `json:"$ref"`
	Type       any                   `json:"type"`
	Format     string                `json:"format"`
	Enum       []any                 `json:"enum"`
	Properties map[string]*APISchema `json:"properties"`
	Items      *APISchema            `json:"items"`
}

// ReadOperations reads every operation from the document of a gateway, by its path.
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
			op := &APIOperation{ID: o.ID, Method: strings.ToUpper(method), Path: path, Scope: o.Scope, Surface: surfaceOf(t, path), Params: o.Parameters}
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
		t.Fatalf("the document has %d operations", len(ops))
	}
	slices.SortFunc(ops, func(a, b *APIOperation) int { return strings.Compare(a.ID, b.ID) })
	return ops
}

func surfaceOf(t *testing.T, path string) string {
	t.Helper()
	first, _, _ := strings.Cut(path[1:], "/")
	surface, known := map[string]string{"v1": "native", "external": "external", "global": "global", "v4": "global"}[first]
	if !known {
		t.Fatalf("%s is of no surface that is known here", path)
	}
	return surface
}

func SortedKeys[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (op *APIOperation) Param(name string) *APIParameter {
	for i := range op.Params {
		if op.Params[i].Name == name {
			return &op.Params[i]
		}
	}
	return nil
}
