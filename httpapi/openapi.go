package httpapi

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/operation"
)

// openAPIConfig returns the configuration of huma and the document without operations.
func (a *API) openAPIConfig() huma.Config {
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "Hydragate", Version: a.version(), Description: introduction},
		Tags:    a.tags(),
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry(operation.SchemaPrefix, schemaName),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				operation.Bearer: {Type: "http", Scheme: "bearer", Description: "An API key."},
				"apiKey":         {Type: "apiKey", In: "header", Name: "X-Api-Key", Description: "An API key."},
			},
		},
	}
	if a.StaffIssuer != "" {
		doc.Components.SecuritySchemes[operation.Bearer].Description = "An API key, or a token of a member of staff."
		doc.Components.SecuritySchemes["staff"] = staffScheme(a.StaffIssuer)
	}
	if a.PublicURL != "" {
		doc.Servers = []*huma.Server{{URL: a.PublicURL}}
	}
	return huma.Config{
		OpenAPI: doc, Formats: map[string]huma.Format{"application/json": jsonFormat()},
		DefaultFormat: "application/json",
	}
}

// staffScheme returns the security scheme of staff tokens.
func staffScheme(issuer string) *huma.SecurityScheme {
	return &huma.SecurityScheme{
		Type: "openIdConnect", OpenIDConnectURL: strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration",
		Description: "A token that the issuer signed for this gateway. The claim hydragate_scopes lists its scopes. " +
			"Without it, the claim roles or role determines them: admin, staff or viewer.",
	}
}

// tags returns the groups of operations in the order in which to read them. Those of the surfaces
// follow later.
func (a *API) tags() []*huma.Tag {
	tags := []*huma.Tag{
		{Name: "Instances", Description: "Bots. An instance has channels, and an application that replies to messages."},
		{Name: "Channels", Description: "Connections of instances to Telegram, SMS, WhatsApp and Slack."},
		{Name: "Customers", Description: "People and companies that you know."},
		{Name: "Identities", Description: "Accounts on channels, and the customers to whom they belong."},
		{Name: "Claims", Description: "Codes and invites with which customers prove that an account is theirs."},
	}
	if len(a.Events) > 0 {
		tags = append(tags, &huma.Tag{
			Name: "Events",
			Description: "Webhooks that the gateway posts to the agent_url of an instance, signed according to the " +
				"Standard Webhooks specification. Fields may be added.",
		})
	}
	return append(tags,
		&huma.Tag{Name: "Audit", Description: "The log of all changes."},
		&huma.Tag{Name: "Tenant", Description: "Settings that apply to all instances."},
		&huma.Tag{Name: "Keys", Description: "API keys and their scopes."},
	)
}

func (a *API) version() string {
	if a.Version == "" {
		return "dev"
	}
	return a.Version
}

// finishDocument adds error schemas, surfaces, events and examples to the document, and removes the
// error schemas of huma.
func (a *API) finishDocument(doc *huma.OpenAPI) {
	known := doc.Components.Schemas.Map()
	delete(known, "ErrorModel")
	delete(known, "ErrorDetail")
	addErrorSchemas(known)
	a.describeSurfaces(doc)
	a.describeEvents(doc)
	fieldDescriptions().Describe(known)
	for _, s := range known {
		splitNullableEnums(s)
	}
	for _, to := range a.routesByID {
		op := operation.FindOperation(doc, to)
		if a.StaffIssuer != "" && to.Surface == nil {
			op.Security = append(op.Security, map[string][]string{"staff": {}})
		}
		for _, p := range op.Parameters {
			if p.In == "header" && p.Name == operation.IdempotencyKey {
				p.Example = "order-4711"
			}
		}
		to.AddExamples(op, a.reader.Checker)
	}
}

func addErrorSchemas(known map[string]*huma.Schema) {
	text := func(meaning string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: meaning} }
	known["Error"] = &huma.Schema{
		Type: huma.TypeObject, Description: "An error.", Required: []string{"detail"},
		Properties: map[string]*huma.Schema{"detail": text("What is wrong, in one sentence.")},
	}
	known["HTTPValidationError"] = &huma.Schema{
		Type: huma.TypeObject, Description: "The error of a request that is not valid.", Required: []string{"detail"},
		Properties: map[string]*huma.Schema{"detail": {
			Type: huma.TypeArray, Description: "Every violation.",
			Items: &huma.Schema{Ref: operation.SchemaPrefix + "ValidationError"},
		}},
	}
	known["ValidationError"] = &huma.Schema{
		Type: huma.TypeObject, Description: "One violation.", Required: []string{"loc", "msg", "type"},
		Properties: map[string]*huma.Schema{
			"loc": {
				Type: huma.TypeArray, Description: "Where it is: body, path, query or header, and the name of the field.",
				Items: &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeInteger}}},
			},
			"msg":  text("What is wrong, for people."),
			"type": text("Kind of the violation, for programs."),
			"ctx": {
				Type: huma.TypeObject, AdditionalProperties: true,
				Description: "Values that the message mentions, such as limits.",
			},
		},
	}
}

// schemaName returns the name of a Go type in the document, for example Customer for
// customerResponse.
func schemaName(t reflect.Type, hint string) string {
	return strings.ReplaceAll(huma.DefaultSchemaNamer(t, hint), "Response", "")
}

// An EventType describes a webhook that the gateway sends to applications. It is listed in the
// OpenAPI document.
type EventType struct {
	Type, Summary string
	Payload       any // example of the request body; its type determines the schema
	Response      any // example of the response body; nil if the response body is ignored
}

// describeEvents adds the webhooks to the document.
func (a *API) describeEvents(doc *huma.OpenAPI) {
	if len(a.Events) == 0 {
		return
	}
	doc.Webhooks = map[string]*huma.PathItem{}
	for _, e := range a.Events {
		accepted := &huma.Response{Description: "The event is accepted."}
		if e.Response != nil {
			accepted.Description = "The event is accepted, and its replies, if any, are sent."
			accepted.Content = exampleOf(doc, e.Response)
		}
		doc.Webhooks[e.Type] = &huma.PathItem{Post: &huma.Operation{
			OperationID: e.Type, Summary: e.Summary, Tags: []string{"Events"},
			Description: "The events of a conversation are delivered in order. An event may be delivered more than once, " +
				"with the same webhook-id.",
			Security: []map[string][]string{}, // authenticated by the signature
			Parameters: []*huma.Param{
				signatureHeader("webhook-id", "ID of the event."),
				signatureHeader("webhook-timestamp", "When this attempt was made, in seconds since 1970."),
				signatureHeader(
					"webhook-signature",
					"Signatures, separated by spaces: one for each secret of the instance that is valid now.",
				),
			},
			RequestBody: &huma.RequestBody{Required: true, Content: exampleOf(doc, e.Payload)},
			Responses: map[string]*huma.Response{
				"2XX": accepted,
				"410": {Description: "No more events are posted until agent_url is set again."},
				"default": {
					Description: "The event is retried for 24 hours with backoff. Retry-After is honored.",
				},
			},
		}}
	}
}

func signatureHeader(name, meaning string) *huma.Param {
	return &huma.Param{
		Name: name, In: "header", Required: true, Description: meaning, Schema: &huma.Schema{Type: huma.TypeString},
	}
}

// exampleOf returns the schema of the type of v, with v as the example. The schema allows additional
// fields.
func exampleOf(doc *huma.OpenAPI, v any) map[string]*huma.MediaType {
	schema := doc.Components.Schemas.Schema(reflect.TypeOf(v), true, "")
	allowAdditionalFields(doc.Components.Schemas, schema)
	return map[string]*huma.MediaType{"application/json": {Schema: schema, Example: v}}
}
