package httpapi

import (
	"io"
	"maps"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// Paths of resources.
const (
	customersPath  = "/v1/customers"
	customerPath   = customersPath + "/{customer_id}"
	identitiesPath = customerPath + "/identities"
	identityPath   = identitiesPath + "/{identity_id}"
	invitesPath    = customerPath + "/invites"
	senderPath     = "/v1/identities/{identity_id}"
	instancesPath  = "/v1/instances"
	instancePath   = instancesPath + "/{instance_id}"
	channelsPath   = instancePath + "/channels"
)

// routes returns the operations of the native API.
func (a *API) routes() []*operation.Route {
	var all []*operation.Route
	for _, group := range []struct {
		tag    string
		routes []*operation.Route
	}{
		{"Customers", a.customerRoutes()},
		{"Identities", a.identityRoutes()},
		{"Claims", a.claimRoutes()},
		{"Instances", a.instanceRoutes()},
		{"Channels", a.channelRoutes()},
		{"Tenant", a.tenantRoutes()},
		{"Keys", a.keyRoutes()},
		{"Audit", a.auditRoutes()},
	} {
		for _, to := range group.routes {
			to.Tag = group.tag
		}
		all = append(all, group.routes...)
	}
	return all
}

// customerRoutes returns the operations on customers, their merges and exports.
func (a *API) customerRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "create_customer", Method: "POST", Path: customersPath, Scope: "customers:write",
			Summary: "Create a customer", Status: 201, Handler: operation.Handle(a.createCustomer),
			Traits: operation.MayConflict,
		},
		{
			ID: "list_customers", Method: "GET", Path: customersPath, Scope: "customers:read",
			Summary: "List and search customers", Status: 200, Handler: operation.Handle(a.listCustomers),
		},
		{
			ID: "get_customer", Method: "GET", Path: customerPath, Scope: "customers:read",
			Summary: "Get a customer", Status: 200, Handler: handleCustomer(a, a.getCustomer),
		},
		{
			ID: "update_customer", Method: "PATCH", Path: customerPath, Scope: "customers:write",
			Summary: "Change a customer", Status: 200, Handler: handleCustomer(a, a.editCustomer),
			Traits: operation.MayConflict,
		},
		{
			ID: "delete_customer", Method: "DELETE", Path: customerPath, Scope: "customers:write",
			Summary: "Delete or erase a customer", Status: 204, Handler: handleCustomer(a, a.deleteCustomer),
		},
		{
			ID: "merge_customer", Method: "POST", Path: customerPath + "/merge", Scope: "customers:write",
			Summary: "Merge a customer into another", Status: 200, Handler: handleCustomer(a, a.mergeCustomer),
		},
		{
			ID: "undo_merge", Method: "POST", Path: customerPath + "/merge/undo", Scope: "customers:write",
			Summary: "Undo a merge", Status: 200, Handler: operation.Handle(a.undoMerge),
			Traits: operation.MayConflict,
		},
		{
			ID: "export_customer", Method: "GET", Path: customerPath + "/export", Scope: "customers:read",
			Summary: "Export everything about a customer", Status: 200,
			Handler: operation.HandleStream[CustomerPath, exportResponse](a.exportCustomer),
		},
	}
}

// identityRoutes returns the operations on identities and unknown senders.
func (a *API) identityRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "lookup_identity", Method: "GET", Path: customersPath + "/lookup/identity", Scope: "identities:read",
			Summary: "Look up an identity by address", Status: 200, Handler: operation.Handle(a.lookupIdentity),
			Traits: operation.MayNotExist,
		},
		{
			ID: "list_identities", Method: "GET", Path: identitiesPath, Scope: "identities:read",
			Summary: "List the identities of a customer", Status: 200, Handler: operation.Handle(a.listIdentities),
		},
		{
			ID: "link_identity", Method: "POST", Path: identitiesPath, Scope: "identities:write",
			Summary: "Link an identity to a customer", Status: 201, Handler: operation.Handle(a.linkIdentity),
			Traits: operation.MayConflict,
		},
		{
			ID: "get_identity", Method: "GET", Path: identityPath, Scope: "identities:read",
			Summary: "Get an identity", Status: 200, Handler: operation.Handle(a.getIdentity),
		},
		{
			ID: "update_identity", Method: "PATCH", Path: identityPath, Scope: "identities:write",
			Summary: "Change an identity", Status: 200, Handler: operation.Handle(a.editIdentity),
		},
		{
			ID: "unlink_identity", Method: "DELETE", Path: identityPath, Scope: "identities:write",
			Summary: "Unlink an identity", Status: 204, Handler: operation.Handle(a.unlinkIdentity),
		},
		{
			ID: "adopt_identity", Method: "POST", Path: identityPath + "/adopt", Scope: "identities:write",
			Summary: "Link an unknown sender to a customer", Status: 200, Handler: operation.Handle(a.adoptIdentity),
			Traits: operation.MayConflict,
		},
		{
			ID: "list_unknown_senders", Method: "GET", Path: "/v1/identities", Scope: "identities:read",
			Summary: "List unknown senders", Status: 200, Handler: operation.Handle(a.listUnknownSenders),
			Traits: operation.MayNotExist,
		},
		{
			ID: "block_sender", Method: "POST", Path: senderPath + "/block", Scope: "identities:write",
			Summary: "Block an unknown sender", Status: 200, Handler: operation.Handle(a.blockSender),
			Traits: operation.MayConflict,
		},
		{
			ID: "unblock_sender", Method: "POST", Path: senderPath + "/unblock", Scope: "identities:write",
			Summary: "Unblock an unknown sender", Status: 200, Handler: operation.Handle(a.unblockSender),
			Traits: operation.MayConflict,
		},
		{
			ID: "erase_sender", Method: "DELETE", Path: senderPath, Scope: "identities:write",
			Summary: "Erase an unknown sender", Status: 204, Handler: operation.Handle(a.eraseSender),
			Traits: operation.MayConflict,
		},
		{
			ID: "erase_address", Method: "DELETE", Path: "/v1/identities", Scope: "identities:write",
			Summary: "Erase an unknown sender by address", Status: 204, Handler: operation.Handle(a.eraseAddress),
			Traits: operation.MayConflict | operation.MayNotExist,
		},
		{
			ID: "identity_history", Method: "GET", Path: senderPath + "/history", Scope: "identities:read",
			Summary: "List the owners of an address", Status: 200, Handler: operation.Handle(a.identityHistory),
		},
	}
}

// claimRoutes returns the operations on claim codes and invites.
func (a *API) claimRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "issue_claim_code", Method: "POST", Path: identityPath + "/claim-code", Scope: "claims:issue",
			Summary: "Issue a claim code", Status: 201, Handler: operation.Handle(a.issueClaimCode),
			Traits: operation.MayConflict | operation.ReturnsSecret,
		},
		{
			ID: "get_claim_code", Method: "GET", Path: identityPath + "/claim-code", Scope: "identities:read",
			Summary: "Get the state of the claim code", Status: 200, Handler: operation.Handle(a.getClaimCode),
		},
		{
			ID: "revoke_claim_code", Method: "DELETE", Path: identityPath + "/claim-code", Scope: "claims:issue",
			Summary: "Revoke the claim code", Status: 204, Handler: operation.Handle(a.revokeClaimCode),
		},
		{
			ID: "issue_invite", Method: "POST", Path: invitesPath, Scope: "claims:issue",
			Summary: "Invite a customer whose account is not yet known", Status: 201,
			Handler: handleCustomer(a, a.issueInvite),
			Traits:  operation.MayConflict | operation.ReturnsSecret,
		},
		{
			ID: "list_invites", Method: "GET", Path: invitesPath, Scope: "identities:read",
			Summary: "List the invites of a customer", Status: 200, Handler: handleCustomer(a, a.listInvites),
		},
		{
			ID: "confirm_invite", Method: "POST", Path: invitesPath + "/{invite_id}/confirm", Scope: "claims:issue",
			Summary: "Confirm the account that opened an invite", Status: 200, Handler: operation.Handle(a.confirmInvite),
			Traits: operation.MayConflict,
		},
		{
			ID: "refuse_invite", Method: "POST", Path: invitesPath + "/{invite_id}/refuse", Scope: "claims:issue",
			Summary: "Refuse the account that opened an invite", Status: 200, Handler: operation.Handle(a.refuseInvite),
			Traits: operation.MayConflict,
		},
		{
			ID: "revoke_invite", Method: "DELETE", Path: invitesPath + "/{invite_id}", Scope: "claims:issue",
			Summary: "Revoke an invite", Status: 204, Handler: operation.Handle(a.revokeInvite),
			Traits: operation.MayConflict,
		},
	}
}

// instanceRoutes returns the operations on instances and their secrets.
func (a *API) instanceRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "create_instance", Method: "POST", Path: instancesPath, Scope: "instances:write",
			Summary: "Create an instance", Status: 201, Handler: operation.Handle(a.createInstance),
		},
		{
			ID: "list_instances", Method: "GET", Path: instancesPath, Scope: "instances:read",
			Summary: "List instances", Status: 200, Handler: operation.Handle(a.listInstances),
		},
		{
			ID: "get_instance", Method: "GET", Path: instancePath, Scope: "instances:read",
			Summary: "Get an instance", Status: 200, Handler: operation.Handle(a.getInstance),
		},
		{
			ID: "update_instance", Method: "PATCH", Path: instancePath, Scope: "instances:write",
			Summary: "Change an instance", Status: 200, Handler: operation.Handle(a.editInstance),
		},
		{
			ID: "delete_instance", Method: "DELETE", Path: instancePath, Scope: "instances:write",
			Summary: "Delete an instance", Status: 204, Handler: operation.Handle(a.deleteInstance),
		},
		{
			ID: "rotate_webhook_secret", Method: "POST", Path: instancePath + "/webhook-secret/rotate",
			Scope: "instances:write", Summary: "Rotate the webhook secret", Status: 201,
			Handler: operation.Handle(a.rotateWebhookSecret),
			Traits:  operation.ReturnsSecret,
		},
		{
			ID: "end_webhook_secrets", Method: "DELETE", Path: instancePath + "/webhook-secret/old",
			Scope: "instances:write", Summary: "End previous webhook secrets", Status: 204,
			Handler: operation.Handle(a.endWebhookSecrets),
		},
		{
			ID: "rotate_agent_secret_key", Method: "POST", Path: instancePath + "/agent-secret-key/rotate",
			Scope: "instances:write", Summary: "Rotate the agent secret key", Status: 201,
			Handler: operation.Handle(a.rotateAgentSecretKey),
			Traits:  operation.ReturnsSecret,
		},
		{
			ID: "end_agent_secret_keys", Method: "DELETE", Path: instancePath + "/agent-secret-key/old",
			Scope: "instances:write", Summary: "End previous agent secret keys", Status: 204,
			Handler: operation.Handle(a.endAgentSecretKeys),
		},
	}
}

// channelRoutes returns the operations on channels.
func (a *API) channelRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "list_channels", Method: "GET", Path: channelsPath, Scope: "channels:read",
			Summary: "List the channels of an instance", Status: 200, Handler: operation.Handle(a.listChannels),
		},
		{
			ID: "get_sms", Method: "GET", Path: channelsPath + "/sms", Scope: "channels:read",
			Summary: "Get the SMS channel", Status: 200, Handler: operation.Handle(a.getSMS),
		},
		{
			ID: "set_up_sms", Method: "POST", Path: channelsPath + "/sms", Scope: "channels:write",
			Summary: "Set up the SMS channel", Status: 200, Handler: operation.Handle(a.setUpSMS),
			Traits: operation.MayConflict,
		},
		{
			ID: "remove_sms", Method: "DELETE", Path: channelsPath + "/sms", Scope: "channels:write",
			Summary: "Remove the SMS channel", Status: 204, Handler: operation.Handle(a.removeSMS),
		},
		{
			ID: "get_whatsapp", Method: "GET", Path: channelsPath + "/whatsapp", Scope: "channels:read",
			Summary: "Get the WhatsApp channel", Status: 200, Handler: operation.Handle(a.getWhatsApp),
		},
		{
			ID: "set_up_whatsapp", Method: "POST", Path: channelsPath + "/whatsapp", Scope: "channels:write",
			Summary: "Set up the WhatsApp channel", Status: 200, Handler: operation.Handle(a.setUpWhatsApp),
			Traits: operation.MayConflict,
		},
		{
			ID: "remove_whatsapp", Method: "DELETE", Path: channelsPath + "/whatsapp", Scope: "channels:write",
			Summary: "Remove the WhatsApp channel", Status: 204, Handler: operation.Handle(a.removeWhatsApp),
		},
		{
			ID: "get_telegram", Method: "GET", Path: channelsPath + "/telegram", Scope: "channels:read",
			Summary: "Get the Telegram channel", Status: 200, Handler: operation.Handle(a.getTelegram),
		},
		{
			ID: "set_up_telegram", Method: "POST", Path: channelsPath + "/telegram", Scope: "channels:write",
			Summary: "Set up the Telegram channel", Status: 200, Handler: operation.Handle(a.setUpTelegram),
			Traits: operation.MayConflict,
		},
		{
			ID: "remove_telegram", Method: "DELETE", Path: channelsPath + "/telegram", Scope: "channels:write",
			Summary: "Remove the Telegram channel", Status: 204, Handler: operation.Handle(a.removeTelegram),
		},
		{
			ID: "get_slack", Method: "GET", Path: channelsPath + "/slack", Scope: "channels:read",
			Summary: "Get the Slack channel", Status: 200, Handler: operation.Handle(a.getSlack),
		},
		{
			ID: "set_up_slack", Method: "POST", Path: channelsPath + "/slack", Scope: "channels:write",
			Summary: "Set up the Slack channel", Status: 200, Handler: operation.Handle(a.setUpSlack),
			Traits: operation.MayConflict,
		},
		{
			ID: "remove_slack", Method: "DELETE", Path: channelsPath + "/slack", Scope: "channels:write",
			Summary: "Remove the Slack channel", Status: 204, Handler: operation.Handle(a.removeSlack),
		},
	}
}

// tenantRoutes returns the operations on the settings of the tenant.
func (a *API) tenantRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "get_tenant", Method: "GET", Path: "/v1/tenant", Scope: "instances:write",
			Summary: "Get the settings of the tenant", Status: 200, Handler: operation.Handle(a.getTenant),
		},
		{
			ID: "update_tenant", Method: "PATCH", Path: "/v1/tenant", Scope: "instances:write",
			Summary: "Change the settings of the tenant", Status: 200, Handler: operation.Handle(a.editTenant),
		},
	}
}

// keyRoutes returns the operations on API keys.
func (a *API) keyRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "create_key", Method: "POST", Path: "/v1/keys", Scope: "keys:write",
			Summary: "Create an API key", Status: 201, Handler: operation.Handle(a.createKey),
			Traits: operation.MayNotExist,
		},
		{
			ID: "list_keys", Method: "GET", Path: "/v1/keys", Scope: "keys:read",
			Summary: "List API keys", Status: 200, Handler: operation.Handle(a.listKeys),
		},
		{
			ID: "rotate_key", Method: "POST", Path: "/v1/keys/{key_id}/rotate", Scope: "keys:write",
			Summary: "Rotate an API key", Status: 201, Handler: operation.Handle(a.rotateKey),
			Traits: operation.MayConflict,
		},
		{
			ID: "revoke_key", Method: "DELETE", Path: "/v1/keys/{key_id}", Scope: "keys:write",
			Summary: "Revoke an API key", Status: 204, Handler: operation.Handle(a.revokeKey),
		},
	}
}

// auditRoutes returns the operations on the audit log.
func (a *API) auditRoutes() []*operation.Route {
	return []*operation.Route{
		{
			ID: "read_audit", Method: "GET", Path: "/v1/audit", Scope: "audit:read",
			Summary: "Read the audit log", Status: 200,
			Handler: operation.HandleStream[auditQuery, operation.Page[eventResponse]](a.readAudit, "text/csv"),
			Traits:  operation.MayNotExist,
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
