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
	answer  handler
	traits  traits
	surface *surface // nil: the native one

	schema *huma.Schema // of the body; nil when there is none
	fields []string     // of the body, in the order of their declaration
}

// traits are what sets a route apart.
type traits uint8

const (
	conflicts traits = 1 << iota // may answer 409
	secret                       // its answer must be kept nowhere, so Idempotency-Key is ignored
	mayMiss                      // may answer 404 for what its path does not name
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
		{id: "create_customer", method: "POST", path: "/v1/customers", scope: "customers:write", tag: "Customers", summary: "Create a customer", status: 201, answer: do(a.createCustomer), traits: conflicts},
		{id: "list_customers", method: "GET", path: "/v1/customers", scope: "customers:read", tag: "Customers", summary: "List and search customers", status: 200, answer: do(a.listCustomers)},
		{id: "get_customer", method: "GET", path: customer, scope: "customers:read", tag: "Customers", summary: "Get a customer", status: 200, answer: orSurvivor(a, a.getCustomer)},
		{id: "update_customer", method: "PATCH", path: customer, scope: "customers:write", tag: "Customers", summary: "Change a customer", status: 200, answer: orSurvivor(a, a.editCustomer), traits: conflicts},
		{id: "delete_customer", method: "DELETE", path: customer, scope: "customers:write", tag: "Customers", summary: "Delete or erase a customer", status: 204, answer: orSurvivor(a, a.deleteCustomer)},
		{id: "merge_customer", method: "POST", path: customer + "/merge", scope: "customers:write", tag: "Customers", summary: "Merge a customer into another; with verified accounts it needs identities:grant too", status: 200, answer: orSurvivor(a, a.mergeCustomer)},
		{id: "undo_merge", method: "POST", path: customer + "/merge/undo", scope: "customers:write", tag: "Customers", summary: "Undo a merge, for 30 days; with verified accounts it needs identities:grant too", status: 200, answer: do(a.undoMerge), traits: conflicts},
		{id: "export_customer", method: "GET", path: customer + "/export", scope: "customers:read", tag: "Customers", summary: "Export everything about a customer", status: 200, answer: flow[CustomerPath, exportAnswer](a.exportCustomer)},

		{id: "lookup_identity", method: "GET", path: "/v1/customers/lookup/identity", scope: "identities:read", tag: "Identities", summary: "Find whose address it is", status: 200, answer: do(a.lookupIdentity)},
		{id: "list_identities", method: "GET", path: linked, scope: "identities:read", tag: "Identities", summary: "List the identities of a customer", status: 200, answer: do(a.listIdentities)},
		{id: "link_identity", method: "POST", path: linked, scope: "identities:write", tag: "Identities", summary: "Link an identity to a customer", status: 201, answer: do(a.linkIdentity), traits: conflicts},
		{id: "get_identity", method: "GET", path: itself, scope: "identities:read", tag: "Identities", summary: "Get an identity", status: 200, answer: do(a.getIdentity)},
		{id: "update_identity", method: "PATCH", path: itself, scope: "identities:write", tag: "Identities", summary: "Change an identity", status: 200, answer: do(a.editIdentity)},
		{id: "unlink_identity", method: "DELETE", path: itself, scope: "identities:write", tag: "Identities", summary: "Unlink an identity", status: 204, answer: do(a.unlinkIdentity)},
		{id: "adopt_identity", method: "POST", path: itself + "/adopt", scope: "identities:write", tag: "Identities", summary: "Link an unknown sender to a customer", status: 200, answer: do(a.adoptIdentity), traits: conflicts},
		{id: "list_unknown_senders", method: "GET", path: "/v1/identities", scope: "identities:read", tag: "Identities", summary: "List unknown senders", status: 200, answer: do(a.listUnknownSenders)},
		{id: "block_sender", method: "POST", path: "/v1/identities/{identity_id}/block", scope: "identities:write", tag: "Identities", summary: "Drop the messages of an unknown sender", status: 200, answer: do(a.blockSender), traits: conflicts},
		{id: "unblock_sender", method: "POST", path: "/v1/identities/{identity_id}/unblock", scope: "identities:write", tag: "Identities", summary: "Hear an unknown sender again", status: 200, answer: do(a.unblockSender), traits: conflicts},
		{id: "identity_history", method: "GET", path: "/v1/identities/{identity_id}/history", scope: "identities:read", tag: "Identities", summary: "Tell who owned an address when", status: 200, answer: do(a.identityHistory)},

		{id: "issue_claim_code", method: "POST", path: itself + "/claim-code", scope: "claims:issue", tag: "Claims", summary: "Issue a claim code", status: 201, answer: do(a.issueClaimCode), traits: conflicts | secret},

		{id: "issue_invite", method: "POST", path: invites, scope: "claims:issue", tag: "Claims", summary: "Invite a person whose account is unknown", status: 201, answer: orSurvivor(a, a.issueInvite), traits: conflicts | secret},
		{id: "list_invites", method: "GET", path: invites, scope: "identities:read", tag: "Claims", summary: "List the invites of a customer", status: 200, answer: orSurvivor(a, a.listInvites)},
		{id: "revoke_invite", method: "DELETE", path: invites + "/{invite_id}", scope: "claims:issue", tag: "Claims", summary: "Revoke an invite", status: 204, answer: do(a.revokeInvite), traits: conflicts},

		{id: "create_instance", method: "POST", path: "/v1/instances", scope: "instances:write", tag: "Instances", summary: "Create an instance", status: 201, answer: do(a.createInstance)},
		{id: "list_instances", method: "GET", path: "/v1/instances", scope: "instances:read", tag: "Instances", summary: "List instances", status: 200, answer: do(a.listInstances)},
		{id: "get_instance", method: "GET", path: instance, scope: "instances:read", tag: "Instances", summary: "Get an instance", status: 200, answer: do(a.getInstance)},
		{id: "update_instance", method: "PATCH", path: instance, scope: "instances:write", tag: "Instances", summary: "Change an instance", status: 200, answer: do(a.editInstance)},
		{id: "delete_instance", method: "DELETE", path: instance, scope: "instances:write", tag: "Instances", summary: "Delete an instance", status: 204, answer: do(a.deleteInstance)},
		{id: "rotate_webhook_secret", method: "POST", path: instance + "/webhook-secret/rotate", scope: "instances:write", tag: "Instances", summary: "Replace the secret that signs events", status: 201, answer: do(a.rotateWebhookSecret), traits: secret},
		{id: "end_webhook_secrets", method: "DELETE", path: instance + "/webhook-secret/old", scope: "instances:write", tag: "Instances", summary: "End replaced signing secrets now", status: 204, answer: do(a.endWebhookSecrets)},
		{id: "rotate_agent_secret_key", method: "POST", path: instance + "/agent-secret-key/rotate", scope: "instances:write", tag: "Instances", summary: "Replace the key of the conversation-user API", status: 201, answer: do(a.rotateAgentSecretKey), traits: secret},
		{id: "end_agent_secret_keys", method: "DELETE", path: instance + "/agent-secret-key/old", scope: "instances:write", tag: "Instances", summary: "End replaced keys of the conversation-user API now", status: 204, answer: do(a.endAgentSecretKeys)},

		{id: "list_channels", method: "GET", path: channel, scope: "channels:read", tag: "Channels", summary: "List the channels of an instance", status: 200, answer: do(a.listChannels)},
		{id: "get_sms", method: "GET", path: channel + "/sms", scope: "channels:read", tag: "Channels", summary: "Get the SMS channel", status: 200, answer: do(a.getSMS)},
		{id: "set_up_sms", method: "POST", path: channel + "/sms", scope: "channels:write", tag: "Channels", summary: "Set up the SMS channel", status: 200, answer: do(a.setUpSMS)},
		{id: "remove_sms", method: "DELETE", path: channel + "/sms", scope: "channels:write", tag: "Channels", summary: "Remove the SMS channel", status: 204, answer: do(a.removeSMS)},
		{id: "get_whatsapp", method: "GET", path: channel + "/whatsapp", scope: "channels:read", tag: "Channels", summary: "Get the WhatsApp channel", status: 200, answer: do(a.getWhatsApp)},
		{id: "set_up_whatsapp", method: "POST", path: channel + "/whatsapp", scope: "channels:write", tag: "Channels", summary: "Set up the WhatsApp channel", status: 200, answer: do(a.setUpWhatsApp)},
		{id: "remove_whatsapp", method: "DELETE", path: channel + "/whatsapp", scope: "channels:write", tag: "Channels", summary: "Remove the WhatsApp channel", status: 204, answer: do(a.removeWhatsApp)},
		{id: "get_telegram", method: "GET", path: channel + "/telegram", scope: "channels:read", tag: "Channels", summary: "Get the Telegram channel", status: 200, answer: do(a.getTelegram)},
		{id: "set_up_telegram", method: "POST", path: channel + "/telegram", scope: "channels:write", tag: "Channels", summary: "Set up the Telegram channel", status: 200, answer: do(a.setUpTelegram)},
		{id: "remove_telegram", method: "DELETE", path: channel + "/telegram", scope: "channels:write", tag: "Channels", summary: "Remove the Telegram channel", status: 204, answer: do(a.removeTelegram)},
		{id: "get_slack", method: "GET", path: channel + "/slack", scope: "channels:read", tag: "Channels", summary: "Get the Slack channel", status: 200, answer: do(a.getSlack)},
		{id: "set_up_slack", method: "POST", path: channel + "/slack", scope: "channels:write", tag: "Channels", summary: "Set up the Slack channel", status: 200, answer: do(a.setUpSlack)},
		{id: "remove_slack", method: "DELETE", path: channel + "/slack", scope: "channels:write", tag: "Channels", summary: "Remove the Slack channel", status: 204, answer: do(a.removeSlack)},

		{id: "create_key", method: "POST", path: "/v1/keys", scope: "keys:write", tag: "API keys", summary: "Create an API key", status: 201, answer: do(a.createKey)},
		{id: "list_keys", method: "GET", path: "/v1/keys", scope: "keys:read", tag: "API keys", summary: "List API keys", status: 200, answer: do(a.listKeys)},
		{id: "rotate_key", method: "POST", path: "/v1/keys/{key_id}/rotate", scope: "keys:write", tag: "API keys", summary: "Replace an API key by a new one", status: 201, answer: do(a.rotateKey), traits: conflicts},
		{id: "revoke_key", method: "DELETE", path: "/v1/keys/{key_id}", scope: "keys:write", tag: "API keys", summary: "Revoke an API key", status: 204, answer: do(a.revokeKey)},

		{id: "read_audit", method: "GET", path: "/v1/audit", scope: "audit:read", tag: "Audit log", summary: "Read the audit log, newest first", status: 200, answer: flow[auditQuery, page[eventAnswer]](a.readAudit, "text/csv")},
	}
}

// repeatable reports whether a call takes an Idempotency-Key.
func (to *route) repeatable() bool {
	return to.method != http.MethodGet && to.traits&secret == 0 && to.surface == nil
}

func (to *route) required(field string) bool { return slices.Contains(to.schema.Required, field) }

// A handler is a function of a request and its answer, ready to be registered.
type handler struct {
	request  reflect.Type
	register func(a *API, surface huma.API, op huma.Operation)
}

// none is an answer, or a request, without a word.
type none struct{}

func do[I, O any](f func(context.Context, *I) (*O, error)) handler {
	return handler{reflect.TypeFor[I](), func(a *API, surface huma.API, op huma.Operation) {
		huma.Register(surface, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := f(ctx, in)
			if err != nil {
				return nil, a.fail(ctx, err)
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
	a.check = newChecker(a.AllowPrivateAgents)
	a.byID = map[string]*route{}
	surface := huma.NewAPI(a.surface(), mux)
	surface.UseMiddleware(a.admitAny)
	maps.Copy(a.check.formats, surfaceFormats())
	for _, to := range append(a.routes(), a.surfaceRoutes()...) {
		a.byID[to.id] = to
		to.answer.register(a, surface, to.operation())
		to.learn(surface.OpenAPI())
	}
	a.finish(surface.OpenAPI())
	return surface.OpenAPI()
}

// learn takes from the document what a body of the route must be.
func (to *route) learn(doc *huma.OpenAPI) {
	op := operationAt(doc, to)
	if op.RequestBody == nil {
		return
	}
	to.fields = to.answer.bodyFields()
	to.schema = op.RequestBody.Content["application/json"].Schema
	if to.schema.Ref != "" {
		to.schema = doc.Components.Schemas.SchemaFromRef(to.schema.Ref)
	}
}

func jsonFormat() huma.Format {
	return huma.Format{Marshal: func(w io.Writer, v any) error {
		b, err := encode(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}, Unmarshal: huma.DefaultJSONFormat.Unmarshal}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
