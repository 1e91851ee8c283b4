package httpapi

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// An EventType is one kind of event that agent runtimes are posted. The document tells
// of it; it is none of this API's calls.
type EventType struct {
	Type, Summary string
	Payload       any // an example: what is posted has its type
	Response      any // an example of what is read of the answer; nil: nothing is
}

// describeEvents puts into the document what agent runtimes are posted.
func (a *API) describeEvents(doc *huma.OpenAPI) {
	if len(a.Events) == 0 {
		return
	}
	doc.Tags = append(doc.Tags, &huma.Tag{Name: "Events", Description: "What is posted to the agent_url of an instance, signed by the Standard Webhooks specification. Fields may be added."})
	doc.Webhooks = map[string]*huma.PathItem{}
	for _, e := range a.Events {
		taken := &huma.Response{Description: "The event is taken."}
		if e.Response != nil {
			taken.Description = "The event is taken, and the replies, if there are any, are sent."
			taken.Content = exampleOf(doc, e.Response)
		}
		doc.Webhooks[e.Type] = &huma.PathItem{Post: &huma.Operation{
			OperationID: e.Type, Summary: e.Summary, Tags: []string{"Events"},
			Description: "The events of a conversation come one after the other. An event may come twice: its webhook-id is the same.",
			Parameters: []*huma.Param{
				signatureHeader("webhook-id", "Names the event."),
				signatureHeader("webhook-timestamp", "When this try was made, in seconds since 1970."),
				signatureHeader("webhook-signature", "One signature for each secret of the instance that is good now."),
			},
			RequestBody: &huma.RequestBody{Required: true, Content: exampleOf(doc, e.Payload)},
			Responses: map[string]*huma.Response{
				"2XX":     taken,
				"410":     {Description: "Nothing is posted any more, until the agent_url is set again."},
				"default": {Description: "The event is posted again for 24 hours, with growing pauses. Retry-After is honoured."},
			},
		}}
	}
}

func signatureHeader(name, meaning string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Required: true, Description: meaning, Schema: &huma.Schema{Type: huma.TypeString}}
}

// exampleOf describes the type of a value, and shows the value.
func exampleOf(doc *huma.OpenAPI, v any) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {Schema: doc.Components.Schemas.Schema(reflect.TypeOf(v), true, ""), Example: v}}
}
