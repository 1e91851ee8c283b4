package fastapi

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// An Optional is a field of a body that may be absent, null or a value, and remembers
// which. In a PATCH absent leaves a field as it is and null clears it.
type Optional[T any] struct {
	IsSet bool
	Value T // zero when null
}

// UnmarshalJSON notes that the field was there.
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	o.IsSet = true
	if string(b) == "null" {
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// Edit gives nil for a field that was absent, a pointer to the zero value for null,
// and a pointer to the value otherwise.
func (o Optional[T]) Edit() *T {
	if !o.IsSet {
		return nil
	}
	return &o.Value
}

// Schema is that of T, or null.
func (Optional[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), true, "")
	s.Nullable = true
	return &s
}

// An Object is data of the caller's own: kept, given back, and never understood.
type Object json.RawMessage

// UnmarshalJSON keeps the text of the object.
func (o *Object) UnmarshalJSON(b []byte) error {
	*o = append((*o)[:0], b...)
	return nil
}

// MarshalJSON writes the text of the object; none is {}.
func (o Object) MarshalJSON() ([]byte, error) { return o.Raw(), nil }

// Schema is any object, within limits.
func (Object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "Data of your own, replaced whole: at most 16 KiB and 8 levels.",
	}
}

func (o Object) Raw() json.RawMessage {
	if len(o) == 0 || string(o) == "null" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(o)
}

// MetadataEdit gives the change to a metadata column, nil for none.
func MetadataEdit(o Optional[Object]) *json.RawMessage {
	if !o.IsSet {
		return nil
	}
	raw := o.Value.Raw()
	return &raw
}
