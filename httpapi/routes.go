package httpapi

import (
	"io"
	"maps"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// routes returns the operations of the native API.
func (a *API) routes() []*operation.Route {
	const (
		customer   = "/v1/customers/{customer_id}"
		identities = customer + "/identities"
		identity   = identities + "/{identity_id}"
		invites    = customer + "/invites"
		instance   = "/v1/instances/{instance_id}"
		channel    = instance + "/channels"
	)
	return []*operation.Route{
		{
			ID: "create_customer", Method: "POST", Path: "/v1/customers", Scope: "customers:write", Tag: "Customers",
			Summary: "Create a customer", Status: 201, Handler: operation.Handle(a.createCustomer),
			Traits: operation.MayConflict,
		},
		{
			ID: "list_customers", Method: "GET", Path: "/v1/customers", Scope: "customers:read", Tag: "Customers",
			Summary: "List and search customers", Status: 200, Handler: operation.Handle(a.listCustomers),
		},
		{
			ID: "get_customer", Method: "GET", Path: customer, Scope: "customers:read", Tag: "Customers",
			Summary: "Get a customer", Status: 200, Handler: handleCustomer(a, a.getCustomer),
		},
		{
			ID: "update_customer", Method: "PATCH", Path: customer, Scope: "customers:write", Tag: "Customers",
			Summary: "Change a customer", Status: 200, Handler: handleCustomer(a, a.editCustomer),
			Traits: operation.MayConflict,
		},
		{
			ID: "delete_customer", Method: "DELETE", Path: customer, Scope: "customers:write", Tag: "Customers",
			Summary: "Delete or erase a customer", Status: 204, Handler: handleCustomer(a, a.deleteCustomer),
		},
		{
			ID: "merge_customer", Method: "POST", Path: customer + "/merge", Scope: "customers:write", Tag: "Customers",
			Summary: "Merge a customer into another", Status: 200,
			Handler: handleCustomer(a, a.mergeCustomer),
		},
		{
			ID: "undo_merge", Method: "POST", Path: customer + "/merge/undo", Scope: "customers:write",
			Tag:     "Customers",
			Summary: "Undo a merge", Status: 200,
			Handler: operation.Handle(a.undoMerge), Traits: operation.MayConflict,
		},
		{
			ID: "export_customer", Method: "GET", Path: customer + "/export", Scope: "customers:read", Tag: "Customers",
			Summary: "Export everything about a customer", Status: 200,
			Handler: operation.HandleStream[CustomerPath, exportResponse](a.exportCustomer),
		},

		{
			ID: "lookup_identity", Method: "GET", Path: "/v1/customers/lookup/identity", Scope: "identities:read",
			Tag: "Identities", Summary: "Look up an identity by address", Status: 200,
			Handler: operation.Handle(a.lookupIdentity),
		},
		{
			ID: "list_identities", Method: "GET", Path: identities, Scope: "identities:read", Tag: "Identities",
			Summary: "List the identities of a customer", Status: 200, Handler: operation.Handle(a.listIdentities),
		},
		{
			ID: "link_identity", Method: "POST", Path: identities, Scope: "identities:write", Tag: "Identities",
			Summary: "Link an identity to a customer", Status: 201, Handler: operation.Handle(a.linkIdentity),
			Traits: operation.MayConflict,
		},
		{
			ID: "get_identity", Method: "GET", Path: identity, Scope: "identities:read", Tag: "Identities",
			Summary: "Get an identity", Status: 200, Handler: operation.Handle(a.getIdentity),
		},
		{
			ID: "update_identity", Method: "PATCH", Path: identity, Scope: "identities:write", Tag: "Identities",
			Summary: "Change an identity", Status: 200, Handler: operation.Handle(a.editIdentity),
		},
		{
			ID: "unlink_identity", Method: "DELETE", Path: identity, Scope: "identities:write", Tag: "Identities",
			Summary: "Unlink an identity", Status: 204, Handler: operation.Handle(a.unlinkIdentity),
		},
		{
			ID: "adopt_identity", Method: "POST", Path: identity + "/adopt", Scope: "identities:write",
			Tag: "Identities", Summary: "Link an unknown sender to a customer", Status: 200,
			Handler: operation.Handle(a.adoptIdentity), Traits: operation.MayConflict,
		},
		{
			ID: "list_unknown_senders", Method: "GET", Path: "/v1/identities", Scope: "identities:read",
			Tag: "Identities", Summary: "List unknown senders", Status: 200,
			Handler: operation.Handle(a.listUnknownSenders),
		},
		{
			ID: "block_sender", Method: "POST", Path: "/v1/identities/{identity_id}/block", Scope: "identities:write",
			Tag: "Identities", Summary: "Block an unknown sender", Status: 200,
			Handler: operation.Handle(a.blockSender), Traits: operation.MayConflict,
		},
		{
			ID: "unblock_sender", Method: "POST", Path: "/v1/identities/{identity_id}/unblock",
			Scope: "identities:write", Tag: "Identities", Summary: "Unblock an unknown sender", Status: 200,
			Handler: operation.Handle(a.unblockSender), Traits: operation.MayConflict,
		},
		{
			ID: "identity_history", Method: "GET", Path: "/v1/identities/{identity_id}/history",
			Scope: "identities:read", Tag: "Identities", Summary: "List the owners of an address", Status: 200,
			Handler: operation.Handle(a.identityHistory),
		},

		{
			ID: "issue_claim_code", Method: "POST", Path: identity + "/claim-code", Scope: "claims:issue",
			Tag:     "Claims",
			Summary: "Issue a claim code", Status: 201, Handler: operation.Handle(a.issueClaimCode),
			Traits: operation.MayConflict | operation.ReturnsSecret,
		},

		{
			ID: "issue_invite", Method: "POST", Path: invites, Scope: "claims:issue", Tag: "Claims",
			Summary: "Invite a customer whose account is not yet known", Status: 201, Handler: handleCustomer(a, a.issueInvite),
			Traits: operation.MayConflict | operation.ReturnsSecret,
		},
		{
			ID: "list_invites", Method: "GET", Path: invites, Scope: "identities:read", Tag: "Claims",
			Summary: "List the invites of a customer", Status: 200, Handler: handleCustomer(a, a.listInvites),
		},
		{
			ID: "revoke_invite", Method: "DELETE", Path: invites + "/{invite_id}", Scope: "claims:issue", Tag: "Claims",
			Summary: "Revoke an invite", Status: 204, Handler: operation.Handle(a.revokeInvite),
			Traits: operation.MayConflict,
		},

		{
			ID: "create_instance", Method: "POST", Path: "/v1/instances", Scope: "instances:write", Tag: "Instances",
			Summary: "Create an instance", Status: 201, Handler: operation.Handle(a.createInstance),
		},
		{
			ID: "list_instances", Method: "GET", Path: "/v1/instances", Scope: "instances:read", Tag: "Instances",
			Summary: "List instances", Status: 200, Handler: operation.Handle(a.listInstances),
		},
		{
			ID: "get_instance", Method: "GET", Path: instance, Scope: "instances:read", Tag: "Instances",
			Summary: "Get an instance", Status: 200, Handler: operation.Handle(a.getInstance),
		},
		{
			ID: "update_instance", Method: "PATCH", Path: instance, Scope: "instances:write", Tag: "Instances",
			Summary: "Change an instance", Status: 200, Handler: operation.Handle(a.editInstance),
		},
		{
			ID: "delete_instance", Method: "DELETE", Path: instance, Scope: "instances:write", Tag: "Instances",
			Summary: "Delete an instance", Status: 204, Handler: operation.Handle(a.deleteInstance),
		},
		{
			ID: "rotate_webhook_secret", Method: "POST", Path: instance + "/webhook-secret/rotate",
			Scope: "instances:write", Tag: "Instances", Summary: "Rotate the webhook secret", Status: 201,
			Handler: operation.Handle(a.rotateWebhookSecret), Traits: operation.ReturnsSecret,
		},
		{
			ID: "end_webhook_secrets", Method: "DELETE", Path: instance + "/webhook-secret/old",
			Scope: "instances:write", Tag: "Instances", Summary: "End previous webhook secrets", Status: 204,
			Handler: operation.Handle(a.endWebhookSecrets),
		},
		{
			ID: "rotate_agent_secret_key", Method: "POST", Path: instance + "/agent-secret-key/rotate",
			Scope: "instances:write", Tag: "Instances", Summary: "Rotate the agent secret key",
			Status: 201, Handler: operation.Handle(a.rotateAgentSecretKey), Traits: operation.ReturnsSecret,
		},
		{
			ID: "end_agent_secret_keys", Method: "DELETE", Path: instance + "/agent-secret-key/old",
			Scope: "instances:write", Tag: "Instances", Summary: "End previous agent secret keys",
			Status: 204, Handler: operation.Handle(a.endAgentSecretKeys),
		},

		{
			ID: "list_channels", Method: "GET", Path: channel, Scope: "channels:read", Tag: "Channels",
			Summary: "List the channels of an instance", Status: 200, Handler: operation.Handle(a.listChannels),
		},
		{
			ID: "get_sms", Method: "GET", Path: channel + "/sms", Scope: "channels:read", Tag: "Channels",
			Summary: "Get the SMS channel", Status: 200, Handler: operation.Handle(a.getSMS),
		},
		{
			ID: "set_up_sms", Method: "POST", Path: channel + "/sms", Scope: "channels:write", Tag: "Channels",
			Summary: "Set up the SMS channel", Status: 200, Handler: operation.Handle(a.setUpSMS),
		},
		{
			ID: "remove_sms", Method: "DELETE", Path: channel + "/sms", Scope: "channels:write", Tag: "Channels",
			Summary: "Remove the SMS channel", Status: 204, Handler: operation.Handle(a.removeSMS),
		},
		{
			ID: "get_whatsapp", Method: "GET", Path: channel + "/whatsapp", Scope: "channels:read", Tag: "Channels",
			Summary: "Get the WhatsApp channel", Status: 200, Handler: operation.Handle(a.getWhatsApp),
		},
		{
			ID: "set_up_whatsapp", Method: "POST", Path: channel + "/whatsapp", Scope: "channels:write",
			Tag: "Channels", Summary: "Set up the WhatsApp channel", Status: 200,
			Handler: operation.Handle(a.setUpWhatsApp),
		},
		{
			ID: "remove_whatsapp", Method: "DELETE", Path: channel + "/whatsapp", Scope: "channels:write",
			Tag: "Channels", Summary: "Remove the WhatsApp channel", Status: 204,
			Handler: operation.Handle(a.removeWhatsApp),
		},
		{
			ID: "get_telegram", Method: "GET", Path: channel + "/telegram", Scope: "channels:read", Tag: "Channels",
			Summary: "Get the Telegram channel", Status: 200, Handler: operation.Handle(a.getTelegram),
		},
		{
			ID: "set_up_telegram", Method: "POST", Path: channel + "/telegram", Scope: "channels:write",
			Tag: "Channels", Summary: "Set up the Telegram channel", Status: 200,
			Handler: operation.Handle(a.setUpTelegram),
		},
		{
			ID: "remove_telegram", Method: "DELETE", Path: channel + "/telegram", Scope: "channels:write",
			Tag: "Channels", Summary: "Remove the Telegram channel", Status: 204,
			Handler: operation.Handle(a.removeTelegram),
		},
		{
			ID: "get_slack", Method: "GET", Path: channel + "/slack", Scope: "channels:read", Tag: "Channels",
			Summary: "Get the Slack channel", Status: 200, Handler: operation.Handle(a.getSlack),
		},
		{
			ID: "set_up_slack", Method: "POST", Path: channel + "/slack", Scope: "channels:write", Tag: "Channels",
			Summary: "Set up the Slack channel", Status: 200, Handler: operation.Handle(a.setUpSlack),
		},
		{
			ID: "remove_slack", Method: "DELETE", Path: channel + "/slack", Scope: "channels:write", Tag: "Channels",
			Summary: "Remove the Slack channel", Status: 204, Handler: operation.Handle(a.removeSlack),
		},

		{
			ID: "create_key", Method: "POST", Path: "/v1/keys", Scope: "keys:write", Tag: "Keys",
			Summary: "Create an API key", Status: 201, Handler: operation.Handle(a.createKey),
		},
		{
			ID: "list_keys", Method: "GET", Path: "/v1/keys", Scope: "keys:read", Tag: "Keys",
			Summary: "List API keys", Status: 200, Handler: operation.Handle(a.listKeys),
		},
		{
			ID: "rotate_key", Method: "POST", Path: "/v1/keys/{key_id}/rotate", Scope: "keys:write", Tag: "Keys",
			Summary: "Rotate an API key", Status: 201, Handler: operation.Handle(a.rotateKey),
			Traits: operation.MayConflict,
		},
		{
			ID: "revoke_key", Method: "DELETE", Path: "/v1/keys/{key_id}", Scope: "keys:write", Tag: "Keys",
			Summary: "Revoke an API key", Status: 204, Handler: operation.Handle(a.revokeKey),
		},

		{
			ID: "read_audit", Method: "GET", Path: "/v1/audit", Scope: "audit:read", Tag: "Audit",
			Summary: "Read the audit log", Status: 200,
			Handler: operation.HandleStream[auditQuery, operation.Page[eventResponse]](a.readAudit, "text/csv"),
		},
	}
}

// nativeRoutes returns the routes of the native API with their examples.
func (a *API) nativeRoutes() []*operation.Route {
	routes, shown, described := a.routes(), examples(), descriptions()
	for _, to := range routes {
		to.Example, to.Description = shown[to.ID], described[to.ID]
	}
	return routes
}

// register registers all routes with the mux and returns the OpenAPI document.
func (a *API) register(mux huma.Adapter) *huma.OpenAPI {
	a.routesByID = map[string]*operation.Route{}
	api := huma.NewAPI(a.openAPIConfig(), mux)
	api.UseMiddleware(a.operationMiddleware)
	for _, s := range a.Surfaces {
		maps.Copy(a.reader.Checker.Formats, s.Formats)
	}
	for _, to := range append(a.nativeRoutes(), a.surfaceRoutes()...) {
		a.routesByID[to.ID] = to
		to.Handler.Register(a.responder, api, to.HumaOperation())
		to.SetBodySchema(api.OpenAPI())
	}
	a.finishDocument(api.OpenAPI())
	return api.OpenAPI()
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
