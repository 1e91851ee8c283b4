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
	"hydragate/gateway/delivery"
)

// An eventDocument is what of the OpenAPI document tells of events.
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

type eventSchema struct {
	Ref        string `json:"$ref"`
	Type       any
	Properties map[string]eventSchema
	Required   []string
	Items      *eventSchema
	Enum       []any
}

// TestEvents_MatchOpenAPI plays a claim, with a picture sent before, and holds
// what the agent was posted to what the document says: the same fields, all of them, of
// the types that it names. So are the document's own examples.
func TestEvents_MatchOpenAPI(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := runDemo(ctx, t, nil, func(ctx context.Context, d *Environment) error {
		var mu sync.Mutex
		var posted []json.RawMessage
		headers := map[string]http.Header{}
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			posted = append(posted, body)
			headers[string(body)] = r.Header.Clone()
			mu.Unlock()
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			d.App.ServeHTTP(w, r)
		}))
		defer agent.Close()
		if err := d.API.Call(ctx, "PATCH", "/v1/instances/"+d.InstanceID, JSONObject{"agent_url": agent.URL}, nil); err != nil {
			return err
		}
		d.Providers.Twilio.SendText("+12025550199", simulator.DemoSMSNumber, "a picture", simulator.TwilioMedia("image/jpeg"))
		tell := &scriptRun{Environment: d, printer: newPrinter(io.Discard), control: d.Providers.NewControl()}
		if err := tell.runScenario(ctx, scenarios()[0]); err != nil {
			return err
		}
		harness.Eventually(t, "the picture is posted", func() bool { return len(d.App.Messages("sms", "+12025550199")) > 0 })
		var doc eventDocument
		if err := d.API.Call(ctx, "GET", "/openapi.json", nil, &doc); err != nil {
			return err
		}
		if kinds := delivery.EventTypes(); len(doc.Webhooks) != len(kinds) {
			t.Errorf("%d webhooks are documented, there are %d kinds of event", len(doc.Webhooks), len(kinds))
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
			hook, told := doc.Webhooks[e.Type]
			if !told {
				t.Errorf("%s is posted and not documented", e.Type)
				continue
			}
			seen[e.Type] = true
			pictures = pictures || strings.Contains(string(raw), `"mime_type":"image/jpeg"`)
			media := hook.Post.RequestBody.Content["application/json"]
			for _, wrong := range append(doc.mismatches(media.Schema, v, e.Type), doc.mismatches(media.Schema, media.Example, "example of "+e.Type)...) {
				t.Error(wrong)
			}
			for _, p := range hook.Post.Parameters {
				if headers[string(raw)].Get(p.Name) == "" {
					t.Errorf("%s has no header %s", e.Type, p.Name)
				}
			}
		}
		if len(seen) != len(doc.Webhooks) || !pictures {
			t.Errorf("posted were %v of %d kinds, a picture: %v", slices.Sorted(maps.Keys(seen)), len(doc.Webhooks), pictures)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mismatches tells in what a value is not what a schema says: all its fields and no others.
func (doc eventDocument) mismatches(s eventSchema, v any, at string) (wrong []string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = doc.Components.Schemas[name]
	}
	types, ok := s.Type.([]any)
	if !ok {
		types = []any{s.Type}
	}
	is := ""
	switch v := v.(type) {
	case nil:
		is = "null"
	case bool:
		is = "boolean"
	case float64:
		is = "integer" // there are no others
	case string:
		is = "string"
	case []any:
		is = "array"
		for i, item := range v {
			wrong = append(wrong, doc.mismatches(*s.Items, item, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case map[string]any:
		is = "object"
		fields, told := slices.Sorted(maps.Keys(v)), slices.Sorted(maps.Keys(s.Properties))
		if required := slices.Sorted(slices.Values(s.Required)); !slices.Equal(fields, told) || !slices.Equal(fields, required) {
			wrong = append(wrong, fmt.Sprintf("%s has %v, documented are %v, as always there %v", at, fields, told, required))
		}
		for name, field := range v {
			wrong = append(wrong, doc.mismatches(s.Properties[name], field, at+"."+name)...)
		}
	}
	if !slices.Contains(types, any(is)) {
		wrong = append(wrong, fmt.Sprintf("%s is %s, documented is %v", at, is, types))
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		wrong = append(wrong, fmt.Sprintf("%s is %v, documented is one of %v", at, v, s.Enum))
	}
	return wrong
}
