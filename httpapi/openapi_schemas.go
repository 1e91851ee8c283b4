package httpapi

import (
	"encoding/json"
	"maps"

	"github.com/danielgtaylor/huma/v2"
)

// splitNullableEnums replaces nullable enums among the properties of s by the alternatives of the enum
// and null, because many code generators reject null as a value of an enum.
func splitNullableEnums(s *huma.Schema) {
	for name, p := range s.Properties {
		if p.Nullable && p.Enum != nil {
			s.Properties[name] = &huma.Schema{
				Description: p.Description,
				AnyOf:       []*huma.Schema{{Type: p.Type, Enum: p.Enum}, {Type: "null"}},
			}
		}
	}
}

// allowAdditionalFields allows additional fields in a schema and all schemas within. Schemas must not
// be recursive.
func allowAdditionalFields(r huma.Registry, s *huma.Schema) {
	if s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	if s.AdditionalProperties == false {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		allowAdditionalFields(r, p)
	}
	if s.Items != nil {
		allowAdditionalFields(r, s.Items)
	}
}

// downgrade returns the document in the format of OpenAPI 3.0.3, for tools that do not support 3.1.
// Version 3.0 has no webhooks; the schemas of the events remain among the components.
func downgrade(doc *huma.OpenAPI) ([]byte, error) {
	text, err := doc.Downgrade()
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	delete(document, "webhooks")
	downgradeSchemas(document)
	return json.Marshal(document)
}

// downgradeSchemas changes, in all of v, what huma's Downgrade leaves in the format of version 3.1.
func downgradeSchemas(v any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"]; ok {
			clear(v) // 3.0 ignores what is next to a reference
			v["$ref"] = ref
			return
		}
		if value, ok := nullable(v["anyOf"]); ok {
			delete(v, "anyOf")
			maps.Copy(v, value)
			v["nullable"] = true
		}
		for key, member := range v {
			if key != "example" {
				downgradeSchemas(member)
			}
		}
	case []any:
		for _, item := range v {
			downgradeSchemas(item)
		}
	}
}

// nullable returns the alternative to null in an anyOf of a schema and null.
func nullable(anyOf any) (map[string]any, bool) {
	alternatives, _ := anyOf.([]any)
	if len(alternatives) != 2 {
		return nil, false
	}
	null, _ := alternatives[1].(map[string]any)
	value, ok := alternatives[0].(map[string]any)
	return value, ok && (null["type"] == "null" || null["nullable"] == true)
}
