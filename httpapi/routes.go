package httpapi

import (
	"context"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// A route is one operation: who may call it, and what answers. Routes, rights and
// the OpenAPI document all come from the table below.
type route struct {
	id      string
	method  string
	path    string
	scope   string
	tag     string
	summary string
	status  int
	handler handler
	traits  traits
	surface *surface // nil: the native one

	schema *huma.Schema // of the body; nil when there is none
	fields []string     // of the body, in the order of their declaration
}

// traits are what sets a route apart.
type traits uint8

const (
	mayConflict   traits = 1 << iota // may answer 409
	returnsSecret                    // its answer must be kept nowhere, so Idempotency-Key is ignored
	mayNotExist                      // may answer 404 for what its path does not name
)

// routes is every operation of the native API.
func (a *API) routes() []*route {
	const (
		customer = "/v1/customers/{customer_id}"
		linked   = customer + "/identities"
		itself   = linked + "/{identity_id}"
		invites  = customer + "/invites"
		instance = "/v1/instances/{instance_id}"
		channel  = instance + "/channels"
	)
	return []*route{
		{id: "create_customer", method: "POST", path: "/v1/customers", scope: "customers:write", tag: "Customers", summary: "Create a customer", status: 201, handler: handle(a.createCustomer), traits: mayConflict},
		{id: "list_customers", method: "GET", path: "/v1/customers", scope: "customers:read", tag: "Customers", summary: "List and search customers", status: 200, handler: handle(a.listCustomers)},
		{id: "get_customer", method: "GET", path: customer, scope: "customers:read", tag: "Customers", summary: "Get a customer", status: 200, handler: handleCustomer(a, a.getCustomer)},
		{id: "update_customer", method: "PATCH", path: customer, scope: "customers:write", tag: "Customers", summary: "Change a customer", status: 200, handler: handleCustomer(a, a.editCustomer), traits: mayConflict},
		{id: "delete_customer", method: "DELETE", path: customer, scope: "customers:write", tag: "Customers", summary: "Delete or erase a customer", status: 204, handler: handleCustomer(a, a.deleteCustomer)},
		{id: "merge_customer", method: "POST", path: customer + "/merge", scope: "customers:write", tag: "Customers", summary: "Merge a customer into another; with verified accounts it needs identities:grant too", status: 200, handler: handleCustomer(a, a.mergeCustomer)},
		{id: "undo_merge", method: "POST", path: customer + "/merge/undo", scope: "customers:write", tag: "Customers", summary: "Undo a merge, for 30 days; with verified accounts it needs identities:grant too", status: 200, handler: handle(a.undoMerge), traits: mayConflict},
		{id: "export_customer", method: "GET", path: customer + "/export", scope: "customers:read", tag: "Customers", summary: "Export everything about a customer", status: 200, handler: handleStream[CustomerPath, exportResponse](a.exportCustomer)},

		{id: "lookup_identity", method: "GET", path: "/v1/customers/lookup/identity", scope: "identities:read", tag: "Identities", summary: "Find whose address it is", status: 200, handler: handle(a.lookupIdentity)},
		{id: "list_identities", method: "GET", path: linked, scope: "identities:read", tag: "Identities", summary: "List the identities of a customer", status: 200, handler: handle(a.listIdentities)},
		{id: "link_identity", method: "POST", path: linked, scope: "identities:write", tag: "Identities", summary: "Link an identity to a customer", status: 201, handler: handle(a.linkIdentity), traits: mayConflict},
		{id: "get_identity", method: "GET", path: itself, scope: "identities:read", tag: "Identities", summary: "Get an identity", status: 200, handler: handle(a.getIdentity)},
		{id: "update_identity", method: "PATCH", path: itself, scope: "identities:write", tag: "Identities", summary: "Change an identity", status: 200, handler: handle(a.editIdentity)},
		{id: "unlink_identity", method: "DELETE", path: itself, scope: "identities:write", tag: "Identities", summary: "Unlink an identity", status: 204, handler: handle(a.unlinkIdentity)},
		{id: "adopt_identity", method: "POST", path: itself + "/adopt", scope: "identities:write", tag: "Identities", summary: "Link an unknown sender to a customer", status: 200, handler: handle(a.adoptIdentity), traits: mayConflict},
		{id: "list_unknown_senders", method: "GET", path: "/v1/identities", scope: "identities:read", tag: "Identities", summary: "List unknown senders", status: 200, handler: handle(a.listUnknownSenders)},
		{id: "block_sender", method: "POST", path: "/v1/identities/{identity_id}/block", scope: "identities:write", tag: "Identities", summary: "Drop the messages of an unknown sender", status: 200, handler: handle(a.blockSender), traits: mayConflict},
		{id: "unblock_sender", method: "POST", path: "/v1/identities/{identity_id}/unblock", scope: "identities:write", tag: "Identities", summary: "Hear an unknown sender again", status: 200, handler: handle(a.unblockSender), traits: mayConflict},
		{id: "identity_history", method: "GET", path: "/v1/identities/{identity_id}/history", scope: "identities:read", tag: "Identities", summary: "Tell who owned an address when", status: 200, handler: handle(a.identityHistory)},

		{id: "issue_claim_code", method: "POST", path: itself + "/claim-code", scope: "claims:issue", tag: "Claims", summary: "Issue a claim code", status: 201, handler: handle(a.issueClaimCode), traits: mayConflict | returnsSecret},

		{id: "issue_invite", method: "POST", path: invites, scope: "claims:issue", tag: "Claims", summary: "Invite a person whose account is unknown", status: 201, handler: handleCustomer(a, a.issueInvite), traits: mayConflict | returnsSecret},
		{id: "list_invites", method: "GET", path: invites, scope: "identities:read", tag: "Claims", summary: "List the invites of a customer", status: 200, handler: handleCustomer(a, a.listInvites)},
		{id: "revoke_invite", method: "DELETE", path: invites + "/{invite_id}", scope: "claims:issue", tag: "Claims", summary: "Revoke an invite", status: 204, handler: handle(a.revokeInvite), traits: mayConflict},

		{id: "create_instance", method: "POST", path: "/v1/instances", scope: "instances:write", tag: "Instances", summary: "Create an instance", status: 201, handler: handle(a.createInstance)},
		{id: "list_instances", method: "GET", path: "/v1/instances", scope: "instances:read", tag: "Instances", summary: "List instances", status: 200, handler: handle(a.listInstances)},
		{id: "get_instance", method: "GET", path: instance, scope: "instances:read", tag: "Instances", summary: "Get an instance", status: 200, handler: handle(a.getInstance)},
		{id: "update_instance", method: "PATCH", path: instance, scope: "instances:write", tag: "Instances", summary: "Change an instance", status: 200, handler: handle(a.editInstance)},
		{id: "delete_instance", method: "DELETE", path: instance, scope: "instances:write", tag: "Instances", summary: "Delete an instance", status: 204, handler: handle(a.deleteInstance)},
		{id: "rotate_webhook_secret", method: "POST", path: instance + "/webhook-secret/rotate", scope: "instances:write", tag: "Instances", summary: "Replace the secret that signs events", status: 201, handler: handle(a.rotateWebhookSecret), traits: returnsSecret},
		{id: "end_webhook_secrets", method: "DELETE", path: instance + "/webhook-secret/old", scope: "instances:write", tag: "Instances", summary: "End replaced signing secrets now", status: 204, handler: handle(a.endWebhookSecrets)},
		{id: "rotate_agent_secret_key", method: "POST", path: instance + "/agent-secret-key/rotate", scope: "instances:write", tag: "Instances", summary: "Replace the key of the conversation-user API", status: 201, handler: handle(a.rotateAgentSecretKey), traits: returnsSecret},
		{id: "end_agent_secret_keys", method: "DELETE", path: instance + "/agent-secret-key/old", scope: "instances:write", tag: "Instances", summary: "End replaced keys of the conversation-user API now", status: 204, handler: handle(a.endAgentSecretKeys)},

		{id: "list_channels", method: "GET", path: channel, scope: "channels:read", tag: "Channels", summary: "List the channels of an instance", status: 200, handler: handle(a.listChannels)},
		{id: "get_sms", method: "GET", path: channel + "/sms", scope: "channels:read", tag: "Channels", summary: "Get the SMS channel", status: 200, handler: handle(a.getSMS)},
		{id: "set_up_sms", method: "POST", path: channel + "/sms", scope: "channels:write", tag: "Channels", summary: "Set up the SMS channel", status: 200, handler: handle(a.setUpSMS)},
		{id: "remove_sms", method: "DELETE", path: channel + "/sms", scope: "channels:write", tag: "Channels", summary: "Remove the SMS channel", status: 204, handler: handle(a.removeSMS)},
		{id: "get_whatsapp", method: "GET", path: channel + "/whatsapp", scope: "channels:read", tag: "Channels", summary: "Get the WhatsApp channel", status: 200, handler: handle(a.getWhatsApp)},
		{id: "set_up_whatsapp", method: "POST", path: channel + "/whatsapp", scope: "channels:write", tag: "Channels", summary: "Set up the WhatsApp channel", status: 200, handler: handle(a.setUpWhatsApp)},
		{id: "remove_whatsapp", method: "DELETE", path: channel + "/whatsapp", scope: "channels:write", tag: "Channels", summary: "Remove the WhatsApp channel", status: 204, handler: handle(a.removeWhatsApp)},
		{id: "get_telegram", method: "GET", path: channel + "/telegram", scope: "channels:read", tag: "Channels", summary: "Get the Telegram channel", status: 200, handler: handle(a.getTelegram)},
		{id: "set_up_telegram", method: "POST", path: channel + "/telegram", scope: "channels:write", tag: "Channels", summary: "Set up the Telegram channel", status: 200, handler: handle(a.setUpTelegram)},
		{id: "remove_telegram", method: "DELETE", path: channel + "/telegram", scope: "channels:write", tag: "Channels", summary: "Remove the Telegram channel", status: 204, handler: handle(a.removeTelegram)},
		{id: "get_slack", method: "GET", path: channel + "/slack", scope: "channels:read", tag: "Channels", summary: "Get the Slack channel", status: 200, handler: handle(a.getSlack)},
		{id: "set_up_slack", method: "POST", path: channel + "/slack", scope: "channels:write", tag: "Channels", summary: "Set up the Slack channel", status: 200, handler: handle(a.setUpSlack)},
		{id: "remove_slack", method: "DELETE", path: channel + "/slack", scope: "channels:write", tag: "Channels", summary: "Remove the Slack channel", status: 204, handler: handle(a.removeSlack)},

		{id: "create_key", method: "POST", path: "/v1/keys", scope: "keys:write", tag: "API keys", summary: "Create an API key", status: 201, handler: handle(a.createKey)},
		{id: "list_keys", method: "GET", path: "/v1/keys", scope: "keys:read", tag: "API keys", summary: "List API keys", status: 200, handler: handle(a.listKeys)},
		{id: "rotate_key", method: "POST", path: "/v1/keys/{key_id}/rotate", scope: "keys:write", tag: "API keys", summary: "Replace an API key by a new one", status: 201, handler: handle(a.rotateKey), traits: mayConflict},
		{id: "revoke_key", method: "DELETE", path: "/v1/keys/{key_id}", scope: "keys:write", tag: "API keys", summary: "Revoke an API key", status: 204, handler: handle(a.revokeKey)},

		{id: "read_audit", method: "GET", path: "/v1/audit", scope: "audit:read", tag: "Audit log", summary: "Read the audit log, newest first", status: 200, handler: handleStream[auditQuery, operation.Page[eventResponse]](a.readAudit, "text/csv")},
	}
}

// acceptsIdempotencyKey reports whether a call takes an Idempotency-Key.
func (to *route) acceptsIdempotencyKey() bool {
	return to.method != http.MethodGet && to.traits&returnsSecret == 0 && to.surface == nil
}

func (to *route) isRequired(field string) bool { return slices.Contains(to.schema.Required, field) }

// A handler is a function of a request and its answer, ready to be registered.
type handler struct {
	request  reflect.Type
	register func(a *API, surface huma.API, op huma.Operation)
}

// noBody is an answer, or a request, without a word.
type noBody struct{}

func handle[I, O any](f func(context.Context, *I) (*O, error)) handler {
	return handler{reflect.TypeFor[I](), func(a *API, surface huma.API, op huma.Operation) {
		huma.Register(surface, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := f(ctx, in)
			if err != nil {
				return nil, a.problemFor(ctx, err)
			}
			return out, nil
		})
	}}
}

// bodyFields gives the names of the fields of a request's body, in the order in which
// they were declared.
func (h handler) bodyFields() []string {
	body, ok := h.request.FieldByName("Body")
	if !ok {
		return nil
	}
	t := body.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// register puts every route on the mux and gives the document that tells of them.
func (a *API) register(mux huma.Adapter) *huma.OpenAPI {
	a.checker = operation.NewChecker(a.AllowPrivateAgentURLs)
	a.routesByID = map[string]*route{}
	surface := huma.NewAPI(a.openAPIConfig(), mux)
	surface.UseMiddleware(a.operationMiddleware)
	maps.Copy(a.checker.Formats, surfaceFormats())
	for _, to := range append(a.routes(), a.surfaceRoutes()...) {
		a.routesByID[to.id] = to
		to.handler.register(a, surface, to.humaOperation())
		to.setBodySchema(surface.OpenAPI())
	}
	a.finishDocument(surface.OpenAPI())
	return surface.OpenAPI()
}

// setBodySchema takes from the document what a body of the route must be.
func (to *route) setBodySchema(doc *huma.OpenAPI) {
	op := findOperation(doc, to)
	if op.RequestBody == nil {
		return
	}
	to.fields = to.handler.bodyFields()
	to.schema = op.RequestBody.Content["application/json"].Schema
	if to.schema.Ref != "" {
		to.schema = doc.Components.Schemas.SchemaFromRef(to.schema.Ref)
	}
}

func jsonFormat() huma.Format {
	return huma.Format{Marshal: func(w io.Writer, v any) error {
		b, err := fastapi.Encode(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}, Unmarshal: huma.DefaultJSONFormat.Unmarshal}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
