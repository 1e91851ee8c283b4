package httpapi

import (
	"maps"
	"strings"

	"hydragate/httpapi/operation"
)

// The texts of error responses that several operations share.
const (
	emailTaken    = "Another customer has this email"
	alreadyLinked = "Identity is already linked to a customer"
	numberTaken   = `This number is already connected to instance "Support" (0192f4c0-0000-7000-8000-000000000001); ` +
		"remove it there first"
)

const (
	exampleID         = operation.ExampleID
	exampleInstanceID = operation.ExampleInstanceID
	exampleOtherID    = `"01930f6e-7a2b-7d4e-8c55-1d2e3f4a5b6c"`

	exampleTimes = `"created_at":"2026-11-22T02:00:00Z","updated_at":"2026-11-22T02:00:00Z"`

	exampleCustomer = `{"company_name":null,"email":"steve@example.com","first_name":"Steve","id":` + exampleID + `,
		"last_name":null,
		"locale":"en-AU","metadata":{},"phone_number":"+61400111222","timezone":"Australia/Sydney",` + exampleTimes + `}`
	exampleIdentity = `{"channel":"telegram","customer_id":` + exampleID + `,"display_name":"Steve",
		"external_id":"12345","id":` + exampleID + `,
		"instance_id":null,"metadata":{},"role_override":null,"verified":false,"verified_at":null,` + exampleTimes + `}`
	exampleSender = `{"channel":"telegram","customer_id":null,"display_name":"Steve","external_id":"12345",
		"id":` + exampleID + `,"instance_id":` + exampleInstanceID + `,"metadata":{},"role_override":null,"verified":false,
		"verified_at":null,` + exampleTimes + `}`
	exampleInstanceFields = `"agent_disabled_at":null,"agent_url":"https://agent.example.com/events",
		"customer_max_age_days":null,"default_region":"US","events":["message.received","identity.verified"],
		"id":` + exampleInstanceID + `,"name":"Support",
		"owner_channels":["telegram","slack"],"owner_max_age_days":365,"silence_max_days":null,"sms_invites":false,
		"unknown_senders":"forward",
		"welcome_text":null,` + exampleTimes
	exampleKey = `"created_at":"2026-11-22T02:00:00Z","expires_at":null,"hint":"x7qa","id":` + exampleID + `,
		"instance_id":null,
		"last_used_at":null,"name":"dashboard","rate_limit_per_second":500,"revoked_at":null,
		"scopes":["customers:read","identities:read"]`
	exampleToken = `"key":"hg_live_…"`

	exampleMerge = `{"customer_id":` + exampleID + `,"identities":2,"into":` + exampleOtherID + `,
		"merged_at":"2026-11-22T02:00:00Z","undo_until":"2026-12-22T02:00:00Z"}`
	exampleEvent = `{"actor":"key:01930f6e-1111-7000-8000-000000000001","actor_name":"dashboard",
		"at":"2026-11-22T02:00:00Z",
		"customer_id":` + exampleID + `,"detail":{"channel":"telegram"},
		"id":` + exampleID + `,"identity_id":` + exampleID + `,"instance_id":null,"kind":"identity.linked","message_id":null}`
	exampleHistory = `{"channel":"telegram","external_id":"12345","identity_id":` + exampleID + `,
		"owners":[{"customer_id":` + exampleID + `,"erased":false,
		"identity_id":` + exampleID + `,"instance_id":null,"since":"2026-11-22T02:00:00Z","until":null}]}`
	exampleExport = `{"exported_at":"2026-11-22T02:00:00Z","customer":` + exampleCustomer + `,
		"identities":[` + exampleIdentity + `],
		"history":[{"channel":"telegram","external_id":"12345","identity_id":` + exampleID + `,"instance_id":null,
		"since":"2026-11-22T02:00:00Z","until":null}],
		"conversations":[{"id":` + exampleID + `,"instance_id":` + exampleInstanceID + `,"channel":"telegram",
		"external_id":"12345","group":false,
		"received":[{"attachments":[],"id":` + exampleID + `,"kind":"text","received_at":"2026-11-22T02:00:00Z",
		"sent_at":"2026-11-22T02:00:00Z","text":"Hello"}],
		"sent":[{"cause":"agent","created_at":"2026-11-22T02:00:01Z","id":` + exampleID + `,"status":"delivered",
		"text":"Hello Steve"}]}],"audit":[` + exampleEvent + `],"withheld":[]}`

	exampleInstructions = "Open https://t.me/acme_bot?start=claim_WDJBMJKLNPQR, or write to @acme_bot on Telegram and " +
		"send /claim WDJB-MJKL-NPQR before 2026-11-23 02:00 UTC. We confirm the account of the first person to do so."

	examplePhoneSetUp = `{"account_sid":"AC00000000000000000000000000000000","auth_token":"…",
		"phone_number":"+61400111222"}`
)

// examples returns the examples of all operations by ID.
func examples() map[string]operation.Example {
	all := map[string]operation.Example{"read_audit": {Response: pageExample(exampleEvent)}}
	for _, some := range []map[string]operation.Example{
		customerExamples(), identityExamples(), claimExamples(), instanceExamples(), tenantExamples(),
		channelExamples(), keyExamples(),
	} {
		maps.Copy(all, some)
	}
	return all
}

func customerExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"create_customer": {
			Conflict: emailTaken,
			Request: `{"email":"steve@example.com","first_name":"Steve","locale":"en-AU","phone_number":"+61400111222",
				"timezone":"Australia/Sydney"}`,
			Response: exampleCustomer,
		},
		"list_customers": {Response: pageExample(exampleCustomer)},
		"get_customer":   {Response: exampleCustomer},
		"update_customer": {
			Conflict: emailTaken,
			Request:  `{"company_name":null,"metadata":{"tier":"gold"}}`,
			Response: exampleCustomer,
		},
		"delete_customer": {},
		"merge_customer":  {Request: `{"into":` + exampleOtherID + `}`, Response: exampleMerge},
		"undo_merge": {
			Conflict: "Another customer now has the email or id of this customer",
			NotFound: "Merge not found",
			Response: exampleCustomer,
		},
		"export_customer": {Response: exampleExport},
	}
}

func identityExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"lookup_identity": {
			NotFound: "Identity not found",
			Response: `{"channel":"telegram","customer_email":"steve@example.com","customer_id":` + exampleID + `,
				"display_name":"Steve",
			"external_id":"12345","identity_id":` + exampleID + `,"role_override":null,"verified":false}`,
		},
		"list_identities": {Response: `[` + exampleIdentity + `]`},
		"link_identity": {
			NotFound: "Customer not found",
			Conflict: alreadyLinked,
			Request:  `{"channel":"telegram","display_name":"Steve","external_id":"12345"}`,
			Response: exampleIdentity,
		},
		"get_identity":         {Response: exampleIdentity},
		"update_identity":      {Request: `{"display_name":"Steve","metadata":null}`, Response: exampleIdentity},
		"unlink_identity":      {},
		"adopt_identity":       {Conflict: alreadyLinked, Response: exampleIdentity},
		"list_unknown_senders": {Response: pageExample(exampleSender)},
		"block_sender": {
			Conflict: alreadyLinked,
			Response: `{"blocked":true,"blocked_at":"2026-11-22T02:00:00Z","identity_id":` + exampleID + `}`,
		},
		"unblock_sender": {
			Conflict: alreadyLinked,
			Response: `{"blocked":false,"blocked_at":null,"identity_id":` + exampleID + `}`,
		},
		"erase_sender":     {Conflict: alreadyLinked},
		"erase_address":    {Conflict: alreadyLinked},
		"identity_history": {Response: exampleHistory},
	}
}

func claimExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"issue_claim_code": {
			Conflict: "Identity is already verified",
			Response: `{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":` + exampleID + `,
			"instructions":"Write to @acme_bot on Telegram and send /claim WDJ-BMJ (Whiskey Delta Juliett, ` +
				`Bravo Mike Juliett) within 15 minutes."}`,
		},
		"get_claim_code": {
			Response: `{"account":{"address":"@steve (12345)","channel":"telegram","first_seen_at":"2026-11-22T01:55:00Z",
			"last_seen_at":"2026-11-22T01:58:00Z"},"customer":{"masked_email":"s…@example.com","name":"Steve Miller"},
			"expires_at":"2026-11-22T02:15:00Z","expires_in_seconds":840,"issued_at":"2026-11-22T02:00:00Z",
			"issued_by":"key:01930f6e-1111-7000-8000-000000000001",
			"last_event":{"at":"2026-11-22T02:00:30Z","kind":"claim.failed","reason":"wrong"},"state":"live",
			"warnings":["linked_minutes_ago"],"wrong_tries":1}`,
		},
		"revoke_claim_code": {},
		"issue_invite": {
			Conflict: "Customer has 5 live invites; revoke one first",
			Request:  `{"channel":"telegram","confirm":true,"instance_id":` + exampleInstanceID + `}`,
			Response: `{"channel":"telegram","code":"WDJBMJKLNPQR","confirm":true,
			"customer_id":` + exampleID + `,"expires_at":"2026-11-23T02:00:00Z","expires_in_seconds":86400,
			"id":` + exampleID + `,"instance_id":` + exampleInstanceID + `,"instructions":"` + exampleInstructions + `",
			"role_override":null,"url":"https://t.me/acme_bot?start=claim_WDJBMJKLNPQR"}`,
		},
		"list_invites": {Response: pageExample(exampleInvite("pending", "null", "null"))},
		"confirm_invite": {
			Conflict: "Invite does not wait for confirmation; its state must be pending",
			Response: exampleInvite("used", exampleID, `"2026-11-22T02:10:00Z"`),
		},
		"refuse_invite": {
			Conflict: "Invite does not wait for confirmation; its state must be pending",
			Response: strings.Replace(
				exampleInvite("refused", "null", "null"), `"refused_at":null`, `"refused_at":"2026-11-22T02:10:00Z"`, 1),
		},
		"revoke_invite": {Conflict: "Invite was already used"},
	}
}

func tenantExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"get_tenant": {Response: `{"owner_confirmation":false,"unknown_sender_days":90}`},
		"update_tenant": {
			Request:  `{"owner_confirmation":true}`,
			Response: `{"owner_confirmation":true,"unknown_sender_days":90}`,
		},
	}
}

// exampleInvite returns an invite that an account opened, in a state, with the JSON of the identity that
// redeemed it and of the time.
func exampleInvite(state, identityID, usedAt string) string {
	return `{"channel":"telegram","confirm":true,"created_at":"2026-11-22T02:00:00Z","customer_id":` + exampleID + `,
		"expires_at":"2026-11-23T02:00:00Z","id":` + exampleID + `,"identity_id":` + identityID + `,
		"instance_id":` + exampleInstanceID + `,"opener":{"display_name":"Steve","external_id":"12345",
		"first_seen_at":"2026-11-22T02:05:00Z","identity_id":` + exampleOtherID + `,
		"opened_at":"2026-11-22T02:05:00Z","username":"steve"},"refused_at":null,"revoked_at":null,
		"role_override":"owner","state":"` + state + `","used_at":` + usedAt + `}`
}

func instanceExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"create_instance": {
			Request:  `{"agent_url":"https://agent.example.com/events","name":"Support"}`,
			Response: `{"agent_secret_key":"ask_…","webhook_secret":"whsec_…",` + exampleInstanceFields + `}`,
		},
		"list_instances": {Response: pageExample(`{` + exampleInstanceFields + `}`)},
		"get_instance":   {Response: `{` + exampleInstanceFields + `}`},
		"update_instance": {
			Request:  `{"unknown_senders":"forward","welcome_text":null}`,
			Response: `{` + exampleInstanceFields + `}`,
		},
		"delete_instance": {},
		"rotate_webhook_secret": {
			Request: `{"overlap_seconds":3600}`,
			Response: `{"instance_id":` + exampleInstanceID + `,"old_good_until":"2026-11-22T03:00:00Z",
				"webhook_secret":"whsec_…"}`,
		},
		"end_webhook_secrets": {},
		"rotate_agent_secret_key": {
			Request: `{"overlap_seconds":3600}`,
			Response: `{"agent_secret_key":"ask_…","instance_id":` + exampleInstanceID + `,
				"old_good_until":"2026-11-22T03:00:00Z"}`,
		},
		"end_agent_secret_keys": {},
	}
}

func channelExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"list_channels": {
			Response: `{"channels":[{"address":"+61400111222","channel":"sms","enabled":true,"error_message":null,
				"last_event_at":null,"status":"active",
				"warnings":["A request to the webhook was refused (signature) at 2026-01-12T09:30:00Z: checked against https://gate.example.com/hooks/sms/01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f, request 5JQ4Z6WXK2L7T3VUAYB3NQ4RHM."],
			"webhook_url":"https://gate.example.com/hooks/sms/01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f"}],"count":1}`,
		},
		"get_sms":         {Response: phoneExample("sms")},
		"set_up_sms":      {Request: examplePhoneSetUp, Response: phoneExample("sms"), Conflict: numberTaken},
		"remove_sms":      {},
		"get_whatsapp":    {Response: phoneExample("whatsapp")},
		"set_up_whatsapp": {Request: examplePhoneSetUp, Response: phoneExample("whatsapp"), Conflict: numberTaken},
		"remove_whatsapp": {},
		"get_telegram":    {Response: exampleTelegram},
		"set_up_telegram": {
			Request:  `{"bot_token":"123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11","mode":"webhook"}`,
			Response: exampleTelegram,
			Conflict: "This bot is already connected elsewhere in this deployment",
		},
		"remove_telegram": {},
		"get_slack":       {Response: exampleSlack},
		"set_up_slack": {
			Request:  `{"bot_token":"xoxb-…","signing_secret":"…","app_token":null}`,
			Response: exampleSlack,
			Conflict: "This app in this workspace is already connected elsewhere in this deployment",
		},
		"remove_slack": {},
	}
}

func keyExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"create_key": {
			Request:  `{"name":"dashboard","scopes":["customers:read","identities:read"]}`,
			Response: `{` + exampleKey + `,` + exampleToken + `}`,
		},
		"list_keys": {Response: pageExample(`{` + exampleKey + `}`)},
		"rotate_key": {
			Conflict: "API key is revoked or expired",
			Request:  `{"overlap_seconds":3600}`,
			Response: `{` + exampleKey + `,` + exampleToken + `}`,
		},
		"revoke_key": {},
	}
}

const (
	exampleTelegram = `{"bot_username":"acme_bot","has_bot_token":true,"instance_id":` + exampleInstanceID + `,
		"message":"The bot @acme_bot is connected.",
		"mode":"webhook","status":"active","telegram_enabled":true,"webhook_registered":true,
		"webhook_url":"https://gate.example.com/hooks/telegram/01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f"}`
	exampleSlack = `{"bot_user_id":"U023BECGF",
		"commands_url":"https://gate.example.com/hooks/slack/01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f/commands",
		"enabled":true,"mode":"webhook","status":"active","team_id":"T024BE7LD","team_name":"Acme",
		"webhook_url":"https://gate.example.com/hooks/slack/01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f/events"}`
)

func phoneExample(channel string) string {
	return `{"enabled":true,"phone_number":"+61400111222","status":"active",
		"webhook_url":"https://gate.example.com/hooks/` + channel + `/01930f6e-0d2b-7c11-8f00-5a9b8c7d6e5f"}`
}

func pageExample(item string) string { return `{"items":[` + item + `],"next_cursor":null}` }
