package fastapi

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// An Optional is a body field that may be absent, null, or have a value. In a PATCH request, an
// absent field remains unchanged and null clears it.
type Optional[T any] struct {
	IsSet  bool // the field is present
	IsNull bool // its value is null
	Value  T    // zero if the field is absent or null
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	o.IsSet = true
	if o.IsNull = string(b) == "null"; o.IsNull {
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// Edit returns nil if the field is absent. Otherwise it returns a pointer to the value, which is
// zero for null.
func (o Optional[T]) Edit() *T {
	if !o.IsSet {
		return nil
	}
	return &o.Value
}

// Schema implements huma.SchemaProvider: it is the schema of T, nullable.
func (Optional[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), true, "")
	s.Nullable = true
	return &s
}

// An Object is a JSON object with arbitrary fields, which the gateway stores and returns without
// interpreting it.
type Object json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (o *Object) UnmarshalJSON(b []byte) error {
	*o = append((*o)[:0], b...)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (o Object) MarshalJSON() ([]byte, error) { return o.Raw(), nil }

// Schema implements huma.SchemaProvider.
func (Object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "Data of your own, replaced whole: at most 16 KiB and 8 levels.",
	}
}

// Raw returns the object, or {} if it is empty or null.
func (o Object) Raw() json.RawMessage {
	if len(o) == 0 || string(o) == "null" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(o)
}

// MetadataEdit returns the new value of a metadata column, or nil if the field is absent.
func MetadataEdit(o Optional[Object]) *json.RawMessage {
	if !o.IsSet {
		return nil
	}
	raw := o.Value.Raw()
	return &raw
}
