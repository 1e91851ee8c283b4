package adapters

import "reflect"

// fixedFields are the strings of a Message that the channel or the adapter determines. A person can fill
// all others.
var fixedFields = map[reflect.Type]map[string]bool{
	reflect.TypeFor[Message](): {
		"Key": true, "AltKey": true, "Kind": true, "ProviderID": true, "Chat": true, "ReplyTo": true, "SentAt": true,
		"GroupKey": true, "Version": true, "Moved": true, "UnprovenReason": true, "Raw": true,
	},
	reflect.TypeFor[Sender]():     {"ID": true, "Aliases": true},
	reflect.TypeFor[Attachment](): {"Kind": true, "Ref": true},
	reflect.TypeFor[Content]():    {"Kind": true},
}

// MapTexts returns a copy of m with every string that a person can fill replaced by the result of f. That
// includes the names of the sender, and fields that are added to Message later.
func (m Message) MapTexts(f func(text string) string) Message { return mapTexts(m, f) }

// MapTexts returns a copy of s with every string that a person can fill replaced by the result of f.
func (s Sender) MapTexts(f func(text string) string) Sender { return mapTexts(s, f) }

func mapTexts[T any](t T, f func(string) string) T {
	mapped := reflect.New(reflect.TypeFor[T]()).Elem()
	mapped.Set(mapValue(reflect.ValueOf(t), f))
	into, _ := reflect.TypeAssert[*T](mapped.Addr())
	return *into
}

// mapValue returns a deep copy of v with the strings in it replaced, in any exported field and any
// container.
func mapValue(v reflect.Value, f func(string) string) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.String:
		if v.Len() > 0 {
			c.SetString(f(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			c.Set(reflect.New(v.Type().Elem()))
			c.Elem().Set(mapValue(v.Elem(), f))
		}
	case reflect.Interface:
		if !v.IsNil() {
			c.Set(mapValue(v.Elem(), f))
		}
	case reflect.Slice:
		switch {
		case v.IsNil():
		case v.Type().Elem().Kind() == reflect.Uint8: // JSON
			c.SetBytes([]byte(f(string(v.Bytes()))))
		default:
			c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				c.Index(i).Set(mapValue(v.Index(i), f))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			c.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for _, key := range v.MapKeys() {
				c.SetMapIndex(mapValue(key, f), mapValue(v.MapIndex(key), f))
			}
		}
	case reflect.Struct:
		fixed := fixedFields[v.Type()]
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && !fixed[field.Name] {
				c.Field(i).Set(mapValue(v.Field(i), f))
			}
		}
	default: // numbers and flags
	}
	return c
}
