package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/gateway/delivery"
)

// An eventDocument is the part of the OpenAPI document that describes events.
type eventDocument struct {
	Webhooks map[string]struct {
		Post struct {
			Parameters  []struct{ Name string }
			RequestBody struct {
				Content map[string]struct {
					Schema  eventSchema
					Example any
				}
			}
		}
	}
	Components struct{ Schemas map[string]eventSchema }
}

// An eventSchema is a schema of the OpenAPI document.
type eventSchema struct {
	Ref        string `json:"$ref"`
	Type       any
	Properties map[string]eventSchema
	Required   []string
	Items      *eventSchema
	Enum       []any
	AnyOf      []eventSchema
}

// TestEvents_MatchOpenAPI plays a claim, sends a picture, and unsubscribes and subscribes again. The
// events that the application receives, and the examples of the OpenAPI document, must match the schemas
// of the document: all fields, no others, and of the documented types.
func TestEvents_MatchOpenAPI(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := runDemo(ctx, t, nil, func(ctx context.Context, d *Environment) error {
		var mu sync.Mutex
		var posted []json.RawMessage
		headers := map[string]http.Header{}
		application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			posted = append(posted, body)
			headers[string(body)] = r.Header.Clone()
			mu.Unlock()
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			d.App.ServeHTTP(w, r)
		}))
		defer application.Close()
		change := JSONObject{"agent_url": application.URL, "events": gateway.AllEventTypes()}
		if err := d.API.Call(ctx, "PATCH", "/v1/instances/"+d.InstanceID, change, nil); err != nil {
			return err
		}
		d.Providers.Twilio.SendText("+12025550199", simulator.DemoSMSNumber, "a picture", simulator.TwilioMedia("image/jpeg"))
		s := &scriptRun{Environment: d, printer: newPrinter(io.Discard), control: d.Providers.NewControl()}
		if err := s.runScenario(ctx, scenarios()[0]); err != nil {
			return err
		}
		harness.Eventually(
			t,
			"the picture is delivered",
			func() bool { return len(d.App.Messages("sms", "+12025550199")) > 0 },
		)
		d.Providers.Twilio.SendText("+12025550199", simulator.DemoSMSNumber, "STOP")
		d.Providers.Twilio.SendText("+12025550199", simulator.DemoSMSNumber, "START")
		harness.Eventually(t, "the person subscribes again", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.ContainsFunc(posted, func(b json.RawMessage) bool {
				return strings.Contains(string(b), string(gateway.IdentityOptedIn))
			})
		})
		var doc eventDocument
		if err := d.API.Call(ctx, "GET", "/openapi.json", nil, &doc); err != nil {
			return err
		}
		if types := delivery.EventTypes(); len(doc.Webhooks) != len(types) {
			t.Errorf("%d webhooks are documented, want one for each of the %d types of event", len(doc.Webhooks), len(types))
		}
		seen, pictures := map[string]bool{}, false
		mu.Lock()
		defer mu.Unlock()
		for _, raw := range posted {
			var e struct{ Type string }
			var v any
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			_ = json.Unmarshal(raw, &v)
			hook, ok := doc.Webhooks[e.Type]
			if !ok {
				t.Errorf("%s is not documented", e.Type)
				continue
			}
			seen[e.Type] = true
			pictures = pictures || strings.Contains(string(raw), `"mime_type":"image/jpeg"`)
			media := hook.Post.RequestBody.Content["application/json"]
			for _, m := range doc.mismatches(media.Schema, v, e.Type) {
				t.Error(m)
			}
			for _, m := range doc.mismatches(media.Schema, media.Example, "example of "+e.Type) {
				t.Error(m)
			}
			for _, p := range hook.Post.Parameters {
				if headers[string(raw)].Get(p.Name) == "" {
					t.Errorf("%s has no header %s", e.Type, p.Name)
				}
			}
		}
		if len(seen) != len(doc.Webhooks) || !pictures {
			t.Errorf("received %v of %d types, a picture: %v", slices.Sorted(maps.Keys(seen)), len(doc.Webhooks), pictures)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mismatches returns the differences between a value and a schema. path is the path of the value.
func (doc eventDocument) mismatches(s eventSchema, v any, path string) (found []string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = doc.Components.Schemas[name]
	}
	for i, alternative := range s.AnyOf {
		of := doc.mismatches(alternative, v, path)
		if len(of) == 0 {
			return nil
		}
		if found = append(found, of...); i == len(s.AnyOf)-1 {
			return found
		}
	}
	types, ok := s.Type.([]any)
	if !ok {
		types = []any{s.Type}
	}
	got := ""
	switch v := v.(type) {
	case nil:
		got = "null"
	case bool:
		got = "boolean"
	case float64:
		got = "integer" // events contain no other numbers
	case string:
		got = "string"
	case []any:
		got = "array"
		for i, item := range v {
			found = append(found, doc.mismatches(*s.Items, item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case map[string]any:
		got = "object"
		fields, documented := slices.Sorted(maps.Keys(v)), slices.Sorted(maps.Keys(s.Properties))
		required := slices.Sorted(slices.Values(s.Required))
		if !slices.Equal(fields, documented) || !slices.Equal(fields, required) {
			found = append(found, fmt.Sprintf("%s has the fields %v; %v are documented, %v as required",
				path, fields, documented, required))
		}
		for name, field := range v {
			found = append(found, doc.mismatches(s.Properties[name], field, path+"."+name)...)
		}
	}
	if !slices.Contains(types, any(got)) {
		found = append(found, fmt.Sprintf("%s is %s, documented as %v", path, got, types))
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		found = append(found, fmt.Sprintf("%s is %v, documented as one of %v", path, v, s.Enum))
	}
	return found
}
