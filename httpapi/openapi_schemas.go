package httpapi

import (
	"encoding/json"
	"maps"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/operation"
)

// splitNullableEnums replaces nullable enums among the properties of s by the alternatives of the enum
// and null, because many code generators reject null as a value of an enum.
func splitNullableEnums(s *huma.Schema) {
	for name, p := range s.Properties {
		if p.Nullable && p.Enum != nil {
			s.Properties[name] = &huma.Schema{
				Description: p.Description,
				AnyOf:       []*huma.Schema{{Type: p.Type, Enum: p.Enum}, {Type: "null"}},
			}
		}
	}
}

// allowAdditionalFields allows additional fields in a schema and all schemas within. Schemas must not
// be recursive.
func allowAdditionalFields(r huma.Registry, s *huma.Schema) {
	if s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	if s.AdditionalProperties == false {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		allowAdditionalFields(r, p)
	}
	if s.Items != nil {
		allowAdditionalFields(r, s.Items)
	}
}

// downgrade returns the document in the format of OpenAPI 3.0.3, for tools that do not support 3.1.
// Version 3.0 has no webhooks; the schemas of the events remain among the components.
func downgrade(doc *huma.OpenAPI) ([]byte, error) {
	text, err := doc.Downgrade()
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	delete(document, "webhooks")
	downgradeSchemas(document)
	return json.Marshal(document)
}

// downgradeSchemas changes, in all of v, what huma's Downgrade leaves in the format of version 3.1.
func downgradeSchemas(v any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"]; ok {
			clear(v) // 3.0 ignores what is next to a reference
			v["$ref"] = ref
			return
		}
		if value, ok := nullable(v["anyOf"]); ok {
			delete(v, "anyOf")
			maps.Copy(v, value)
			v["nullable"] = true
		}
		for key, member := range v {
			if key != "example" {
				downgradeSchemas(member)
			}
		}
	case []any:
		for _, item := range v {
			downgradeSchemas(item)
		}
	}
}

// nullable returns the alternative to null in an anyOf of a schema and null.
func nullable(anyOf any) (map[string]any, bool) {
	alternatives, _ := anyOf.([]any)
	if len(alternatives) != 2 {
		return nil, false
	}
	null, _ := alternatives[1].(map[string]any)
	value, ok := alternatives[0].(map[string]any)
	return value, ok && (null["type"] == "null" || null["nullable"] == true)
}

// introduction is the description of the API in the OpenAPI document.
const introduction = `The API of Hydragate, a gateway between chat bots and the people who write to them.
It manages instances (bots), their channels, customers, and the identities that customers have on those channels.

## First call

With the API key that the gateway printed at its first start, list your customers:

    curl -H 'Authorization: Bearer hg_live_…' https://gate.example.com/v1/customers

## Authentication

Send an API key as ` +
	"`Authorization: Bearer <key>` or `X-Api-Key: <key>`" + `. Each operation requires one scope of the key.
A key that is limited to one instance sees only that instance.

## Errors

Error responses are JSON with the field ` + "`detail`" + `: one sentence, or for status 422 a list of every violation.
Every response has the header ` + "`X-Request-Id`" + `, which also appears in the log of the gateway.

## Paging

Lists return ` + "`items` and `next_cursor`. Send `next_cursor` as `cursor`" +
	` to get the next page. It is null on the last page.

## Idempotency

Send an ` + "`Idempotency-Key`" +
	` with requests that change something. For 24 hours, repeating the request with the same key
returns the stored response and changes nothing. The same key with another request is an error (422).

## Limits

An API key may make ` + "`rate_limit_per_second`" + ` requests a second (default 500), with bursts of twice that. ` +
	"Beyond that, the response is 429 with the header `Retry-After`" + `.
After 20 failed authentications in a minute from one client network (an IPv4 address or an IPv6 /64), further unknown
keys from that network are also answered with 429. Keys that exist are never affected by that.
A request body may have up to 256 KiB.`

// descriptions returns the descriptions of the native operations by ID.
func descriptions() map[string]string { //nolint:funlen // one entry for each operation
	const channelSetUp = "Checks the credentials with the provider, stores them encrypted and connects the channel. " +
		"Setting up a channel again replaces its credentials."
	const channelRemoval = "Disconnects the channel and deletes its credentials."
	const channelState = "Returns the state of the channel. A channel that was never set up has the status not_configured."
	return map[string]string{
		"create_customer": "Creates a customer. All fields are optional.",
		"list_customers": "Lists customers, oldest first. Parameters filter the list; all of them must match. For a key " +
			"that is limited to one instance, external_id and external_id_prefix match the identities of that instance " +
			"and of all instances.",
		"get_customer": "Returns one customer. For a customer that was merged, the error names the remaining one.",
		"update_customer": "Changes a customer. Absent fields remain unchanged, and null clears a field. Changing the " +
			"email address of a customer with verified identities also requires the scope `identities:grant`.",
		"delete_customer": "Deletes a customer and unlinks all identities. With erase, it also removes personal data from " +
			"every table and queue: messages in both directions, deliveries, dead letters and merged customers. This " +
			"includes messages from the customer's accounts that arrived before they were linked, and accounts that the " +
			"customer once had and no one else has now. The audit log keeps pseudonyms and a receipt. A deleted customer " +
			"can still be erased; an erased one is not found (404).",
		"merge_customer": "Moves the identities and conversations of a customer to another one. The merge can be undone " +
			"for 30 days. If the customer has verified identities, it also requires the scope `identities:grant`.",
		"undo_merge": "Undoes a merge of the last 30 days: restores the customer with the identities that were moved. " +
			"If there are verified identities, it also requires the scope `identities:grant`.",
		"export_customer": "Returns everything that is stored about a customer. Parts for which the key lacks the scope " +
			"are empty and listed in withheld.",

		"lookup_identity": "Returns the identity with an address and the customer to whom it belongs. Unknown senders " +
			"are not found.",
		"list_identities": "Lists the identities of a customer, oldest first, without pages.",
		"link_identity": "Links an account to a customer. The identity is not verified yet. If the account has written " +
			"before, its conversations are kept.",
		"get_identity":    "Returns one identity.",
		"update_identity": "Changes an identity. Absent fields remain unchanged, and null clears a field.",
		"unlink_identity": "Unlinks an identity from the customer and revokes its claim code.",
		"adopt_identity":  "Links an unknown sender, with the conversations so far, to a customer.",
		"list_unknown_senders": "Lists the senders that belong to no customer, oldest first. An unknown sender is " +
			"recorded with the first message to an instance.",
		"block_sender":   "Drops all further messages of an unknown sender.",
		"unblock_sender": "Accepts messages of a blocked sender again.",
		"erase_sender": "Removes everything that is stored about an unknown sender, in all instances in which the " +
			"account belongs to no customer: identities, messages in both directions, deliveries and dead letters. " +
			"Messages from before that still arrive are dropped. The audit log keeps a pseudonym and a receipt. The " +
			"key must not be limited to an instance. To erase a customer, delete the customer with erase.",
		"erase_address": "Does what erasing an unknown sender does, for an account given by its address. It also finds " +
			"messages whose sender is no longer listed.",
		"identity_history": "Lists the customers who owned the address of an identity, oldest first.",

		"issue_claim_code": "Issues a code that the customer sends to the bot within 15 minutes to verify the identity. " +
			"It revokes the previous code.",
		"get_claim_code": "Returns the state of the last claim code, without the code, whose account it verifies, and " +
			"warnings to consider before you issue another.",
		"revoke_claim_code": "Revokes a live claim code. If there is none, nothing changes.",
		"issue_invite": "Issues an invite that is valid for 24 hours, or as long as expires_in_seconds says. The first " +
			"account to redeem it is linked to the customer and verified, if confirm is set only after staff have " +
			"confirmed it.",
		"list_invites": "Lists the invites of a customer, oldest first. Codes are not included.",
		"confirm_invite": "Links the account that opened the invite to the customer and verifies it. The person and the " +
			"application are notified. The invite must have the state pending.",
		"refuse_invite": "Refuses the account that opened the invite, which ends the invite. The person gets a message " +
			"that the account is not linked. The invite must have the state pending; refusing it again changes nothing.",
		"revoke_invite": "Revokes an invite that was not used yet.",

		"create_instance": "Creates an instance with its secrets, which are shown once. The agent_secret_key is null " +
			"unless the calling key has the scopes `customers:read` and `customers:write`.",
		"list_instances":  "Lists instances, oldest first.",
		"get_instance":    "Returns one instance.",
		"update_instance": "Changes an instance. Absent fields remain unchanged, and null clears a field.",
		"delete_instance": "Deletes an instance with its channels, API keys and conversations, and the identities " +
			"that are valid for it only.",
		"rotate_webhook_secret": "Replaces the secret that signs events. During the grace period, events are signed with " +
			"both secrets.",
		"end_webhook_secrets": "Ends the grace period of previous webhook secrets immediately.",
		"rotate_agent_secret_key": "Replaces the key of the conversation-user API. During the grace period, both keys " +
			"are accepted. The new key is returned only if the calling key has the scopes `customers:read` and " +
			"`customers:write`; otherwise it is null, and no one knows the new key until the next rotation.",
		"end_agent_secret_keys": "Ends the grace period of previous agent secret keys immediately.",

		"get_tenant": "Returns the settings that apply to all instances. The key must not be limited to one instance.",
		"update_tenant": "Changes the settings that apply to all instances. Absent fields remain unchanged, and null " +
			"resets a field to its default. The key must not be limited to one instance.",

		"list_channels":   "Lists the channels of an instance that were set up, with their state.",
		"get_sms":         channelState,
		"set_up_sms":      channelSetUp,
		"remove_sms":      channelRemoval,
		"get_whatsapp":    channelState,
		"set_up_whatsapp": channelSetUp,
		"remove_whatsapp": channelRemoval,
		"get_telegram":    channelState,
		"set_up_telegram": channelSetUp,
		"remove_telegram": channelRemoval,
		"get_slack":       channelState,
		"set_up_slack":    channelSetUp,
		"remove_slack":    channelRemoval,

		"create_key": "Creates an API key with a subset of the scopes of the calling key, which are listed or those of " +
			"a role. The key is shown once.",
		"list_keys": "Lists API keys, oldest first, including revoked and expired ones.",
		"rotate_key": "Replaces an API key by a new one with the same scopes and limits. The previous key stays " +
			"valid during the grace period.",
		"revoke_key": "Revokes an API key. It stops working within two seconds.",

		"read_audit": "Returns the events of the audit log, newest first, as JSON pages or as CSV. CSV contains all " +
			"matching events after the cursor, regardless of limit; the header Accept: text/csv asks for it too. Values " +
			"that a spreadsheet would run as a formula are prefixed with an apostrophe.",
	}
}

// exportFields describes the fields of exports.
func exportFields() operation.FieldDescriptions {
	return operation.FieldDescriptions{
		"Export": {
			"audit":         "Audit events about the customer, newest first.",
			"conversations": "Conversations in which the customer wrote.",
			"customer":      "The customer.",
			"exported_at":   "When the export was made.",
			"history":       "Addresses that the customer has owned, oldest first.",
			"identities":    "Identities of the customer.",
			"withheld": "Parts that are empty because the key lacks their scope: audit (audit:read), conversations " +
				"(messages:read), history and identities (identities:read).",
		},
		"Talk": {
			"channel":     "Channel of the conversation.",
			"external_id": "ID of the account on its channel.",
			"group": "Whether it is a group. Of a group, only the messages of the customer and the replies to them are " +
				"included.",
			"id":          "ID of the conversation.",
			"instance_id": "Instance of the conversation.",
			"received":    "Messages from the customer, oldest first.",
			"sent":        "Messages to the customer, oldest first.",
		},
		"Received": {
			"action":        "Value of the button that was pressed.",
			"attachments":   "Files of the message. Only their description is stored.",
			"content":       "What the message contains beside text and files, such as a place or a contact.",
			"id":            "ID of the message.",
			"kind":          "Kind of the message, such as text.",
			"received_at":   "When the gateway received the message.",
			"sent_at":       "When the message was sent, by the provider's clock.",
			"start_payload": "What the link carries with which the customer opened the chat.",
			"text":          "Text of the message.",
		},
	}
}
