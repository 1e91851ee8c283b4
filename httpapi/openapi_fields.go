package httpapi

import (
	"maps"

	"hydragate/httpapi/operation"
)

// fieldDescriptions returns the descriptions of the fields of bodies that several schemas share, or
// that are too long for the struct tag doc. A schema has all its descriptions in one of both places.
func fieldDescriptions() operation.FieldDescriptions {
	all := operation.FieldDescriptions{
		"Merge_customerRequest": {
			"into": "Customer that remains, with its own fields. Nothing is copied from the other customer.",
		},
	}
	for _, some := range []operation.FieldDescriptions{
		instanceFields(), customerBodyFields(), identityFields(), historyFields(), claimCodeFields(), inviteFields(),
		channelFields(), keyFields(), eventFields(), exportFields(),
	} {
		maps.Copy(all, some)
	}
	return all
}

// instanceFields describes the fields of instances and their secrets.
func instanceFields() operation.FieldDescriptions {
	shared := map[string]string{
		"agent_disabled_at": "When the application responded with 410, after which no events are posted. Setting " +
			"agent_url ends this.",
		"agent_url":             "URL of your application, to which events are posted. Null: no events are posted.",
		"created_at":            "When the instance was created.",
		"customer_max_age_days": "Number of days after which a customer must verify the identity again. Null: never.",
		"default_region": "Country, as two letters such as US, of phone numbers that you write without a country code. " +
			"Null: such numbers are rejected.",
		"events": "Types of the events that your application receives. Messages are processed and stored whether or " +
			"not it does.",
		"id":   "ID of the instance.",
		"name": "Name of the instance, for staff.",
		"owner_channels": "Channels on which a claim or an invite may grant the role owner. On the others it grants " +
			"customer. Leave out SMS and WhatsApp, where only the carrier vouches for the number.",
		"owner_max_age_days": "Number of days after which a verified owner is treated as a customer. Null: never.",
		"silence_max_days": "Number of days without a message after which the identity must be verified again, because " +
			"the number may have a new holder. Null: never.",
		"sms_invites": "Whether invites may be sent for SMS and WhatsApp, where a phone number is only as trustworthy " +
			"as its carrier.",
		"unknown_senders": "How messages of unknown senders are handled: forwarded to the application, answered by the " +
			"gateway, or dropped.",
		"updated_at":   "When the instance was last changed.",
		"welcome_text": "Reply to the command /start. Null: a default text.",
		"agent_secret_key": "Key of the conversation-user API for this instance. It is shown once. Null: the calling " +
			"key lacks customers:read or customers:write, so no one receives it.",
		"webhook_secret": "Secret that signs events according to the Standard Webhooks specification. It is shown once.",
		"instance_id":    "ID of the instance.",
	}
	return operation.FieldDescriptions{
		"Instance":        shared,
		"CreatedInstance": shared,
		"NewInstance": operation.Extend(shared, map[string]string{
			"unknown_senders": shared["unknown_senders"] + " Default: forward.",
			"sms_invites":     shared["sms_invites"] + " Default: false.",
			"owner_channels":  shared["owner_channels"] + " Default: all.",
			"events":          shared["events"] + " Default: message.received and identity.verified.",
		}),
		"InstanceEdit": operation.Extend(shared, map[string]string{
			"agent_url":       shared["agent_url"] + " A new URL ends the state in which no events are posted.",
			"unknown_senders": shared["unknown_senders"] + " Null: forward.",
			"sms_invites":     shared["sms_invites"] + " False ends live invites of these channels.",
			"owner_channels":  shared["owner_channels"] + " Null: all.",
			"events":          shared["events"] + " Null: message.received and identity.verified.",
		}),
		"NewWebhookSecret": operation.Extend(shared, map[string]string{
			"old_good_until": "Until when events are also signed with the previous secret. Null: it has ended.",
		}),
		"NewAgentSecretKey": operation.Extend(shared, map[string]string{
			"old_good_until": "Until when the previous key is accepted. Null: it has ended.",
		}),
		"Overlap": {
			"overlap_seconds": "How long the previous secret stays valid, in seconds. Default: one day. 0 ends it " +
				"immediately, and any that was replaced before.",
		},
	}
}

// customerBodyFields describes the fields of customers.
func customerBodyFields() operation.FieldDescriptions {
	shared := map[string]string{
		"company_name": "Company of the customer.",
		"email":        "Email address. It is unique in the tenant, regardless of case.",
		"first_name":   "First name of the customer.",
		"last_name":    "Last name of the customer.",
		"locale":       "Language tag (BCP 47), such as en-AU.",
		"timezone":     "IANA time zone, such as Australia/Sydney.",
	}
	return operation.FieldDescriptions{
		"Customer": operation.Extend(shared, map[string]string{
			"created_at":   "When the customer was created.",
			"id":           "ID of the customer.",
			"phone_number": "Phone number in E.164 format.",
			"updated_at":   "When the customer was last changed.",
		}),
		"CustomerFields": operation.Extend(shared, map[string]string{
			"phone_number": "Phone number with country code. It is stored in E.164 format.",
		}),
	}
}

// identityFields describes the fields of identities.
func identityFields() operation.FieldDescriptions {
	shared := map[string]string{
		"channel":       "Channel of the account.",
		"display_name":  "Name of the account, for staff. It is never matched.",
		"external_id":   "ID of the account on its channel, in normalized form.",
		"role_override": "Role that is granted once the identity is verified. Null: customer.",
		"verified":      "Whether the identity is verified.",
	}
	return operation.FieldDescriptions{
		"Identity": operation.Extend(shared, map[string]string{
			"aliases": "Other IDs of the same account, such as the user IDs that WhatsApp sends beside a phone number or in " +
				"place of it. Each of them finds the identity. Absent: there are none.",
			"created_at":  "When the identity was linked.",
			"customer_id": "Customer to whom the identity belongs. Null: an unknown sender.",
			"id":          "ID of the identity.",
			"instance_id": "Instance for which the identity is valid. Null: all instances of the tenant.",
			"updated_at":  "When the identity was last changed.",
			"verified_at": "When the identity was verified. Null: it is not verified.",
		}),
		"NewIdentity": operation.Extend(shared, map[string]string{
			"channel": "telegram, sms, slack, whatsapp, or a channel of your own.",
			"external_id": "ID of the account on its channel. SMS: the phone number. WhatsApp: the phone number, or the user " +
				"ID of an account without one (US.…). Telegram: the numeric user ID. Slack: team and user ID (T…:U…).",
			"instance_id": "Instance for which the identity is valid. Absent or null: all instances of the tenant.",
			"role_override": "Role that is granted once the identity is verified. Null: customer. Setting it requires the " +
				"scope identities:grant.",
		}),
		"IdentityEdit": operation.Extend(shared, map[string]string{
			"role_override": "Role that is granted once the identity is verified. Null: customer. Changing it requires " +
				"the scope identities:grant.",
			"verified": "true verifies the identity without a claim; false or null ends a verification and a live claim " +
				"code. Requires the scope identities:grant.",
		}),
		"Lookup": operation.Extend(shared, map[string]string{
			"customer_email": "Email address of the customer.",
			"customer_id":    "Customer to whom the identity belongs.",
			"identity_id":    "ID of the identity.",
		}),
	}
}

// historyFields describes the fields of the history of addresses.
func historyFields() operation.FieldDescriptions {
	shared := map[string]string{
		"channel":     "Channel of the address.",
		"identity_id": "ID of the identity.",
		"instance_id": "Instance for which the identity is valid. Null: all instances of the tenant.",
		"since":       "When the ownership began.",
		"until":       "When the ownership ended. Null: it has not.",
	}
	return operation.FieldDescriptions{
		"History": operation.Extend(shared, map[string]string{
			"external_id": "ID of the account on its channel. A pseudonym if the customer was erased.",
			"owners":      "Owners of the address in any instance, oldest first.",
		}),
		"Owner": operation.Extend(shared, map[string]string{
			"customer_id": "Customer that owned the address. It may have been deleted or merged since.",
			"erased":      "Whether the customer was erased.",
			"identity_id": "Identity that linked the address. Linking an address again creates a new identity.",
		}),
		"Owned": operation.Extend(shared, map[string]string{
			"external_id": "ID of the account on its channel.",
		}),
	}
}

// claimCodeFields describes the state of claim codes.
func claimCodeFields() operation.FieldDescriptions {
	return operation.FieldDescriptions{
		"ClaimCodeStatus": {
			"account":            "Account that the code verifies.",
			"customer":           "Customer to whom the account is linked.",
			"expires_at":         "When the last code expires or expired. Null: none was issued.",
			"expires_in_seconds": "Seconds until the code expires. 0: it is not live.",
			"issued_at":          "When the last code was issued. Null: none was issued.",
			"issued_by":          "Who issued it, as in the audit log. Null: none was issued.",
			"last_event":         "Newest event of the audit log about codes for this account. Null: there is none.",
			"state": "State of the last code. A code that another account tried is revoked; one that was tried five times " +
				"is locked.",
			"warnings": "Reasons to look twice. never_seen: the account never wrote to the bot. linked_minutes_ago: it was " +
				"linked less than an hour ago. other_verified_accounts: the customer has other verified accounts. " +
				"verification_expired: the account was verified, and the verification has expired. channel_not_connected: " +
				"no connected bot can redeem a code. carrier_proof_only: only the carrier vouches for the number.",
			"wrong_tries": "Wrong codes that the account sent since the last code was issued.",
		},
		"ClaimAccount": {
			"address":       "Address of the account, with its username if it has one.",
			"channel":       "Channel of the account.",
			"first_seen_at": "When the account first wrote to the bot. Null: never.",
			"last_seen_at":  "When the account last wrote to the bot. Null: never.",
		},
		"ClaimCustomer": {
			"masked_email": "Email address with only the first letter before the @ sign. Null: there is none.",
			"name":         "First and last name, or the company. Null: there is none.",
		},
		"ClaimEvent": {
			"at":     "When it happened.",
			"kind":   "Kind of the event, such as claim.failed.",
			"reason": "Reason in the event. Null: it has none.",
		},
	}
}

// inviteFields describes the fields of invites.
func inviteFields() operation.FieldDescriptions {
	shared := map[string]string{
		"channel":       "Channel on which the invite can be redeemed.",
		"customer_id":   "Customer for whom the invite was issued.",
		"expires_at":    "When the invite expires.",
		"id":            "ID of the invite.",
		"instance_id":   "Instance whose bot the person writes to.",
		"role_override": "Role that is granted once the identity is verified. Null: customer.",
		"confirm":       "Whether staff must confirm the account that opens the invite before anything is granted.",
	}
	return operation.FieldDescriptions{
		"Opener": {
			"display_name":  "Name that the person chose. Never trust it. Null: none, or the account was erased.",
			"external_id":   "ID of the account on its channel. Null: the account was deleted since.",
			"first_seen_at": "When the account was first seen. Null: the account was deleted since.",
			"identity_id":   "Identity of the account, which belongs to no customer unless it was linked before.",
			"opened_at":     "When the account opened the invite.",
			"username":      "User name that the person chose. Never trust it. Null: none.",
		},
		"IssuedInvite": operation.Extend(shared, map[string]string{
			"code":               "Code of twelve letters. It is shown once.",
			"expires_in_seconds": "Seconds until the invite expires.",
			"instructions":       "What to send to the person, in a few sentences.",
			"url":                "Link that redeems the invite. Null if the channel has no links.",
		}),
		"Invite": operation.Extend(shared, map[string]string{
			"created_at": "When the invite was issued.",
			"opener": "Account that opened the invite and waits for staff, or did. Null: none, or the invite needs no " +
				"confirmation.",
			"refused_at":  "When staff refused the account that opened the invite. Null: they did not.",
			"identity_id": "Identity that redeemed the invite. Null: none.",
			"revoked_at":  "When the invite was revoked. Null: it was not.",
			"state":       "State of the invite.",
			"used_at":     "When the invite was redeemed. Null: it was not.",
		}),
		"NewInvite": {
			"channel": "Channel on which the invite can be redeemed. The instance must be connected to it. SMS and " +
				"WhatsApp require sms_invites of the instance.",
			"instance_id":        "Instance whose bot the person writes to. The identity is valid for this instance.",
			"expires_in_seconds": "Seconds until the invite expires. Absent or null: 86400, one day.",
			"confirm":            shared["confirm"] + " Recommended for owner. Absent or null: false.",
			"role_override": "Role of the person who redeems the invite. Owner requires the scope identities:grant and a " +
				"channel in owner_channels of the instance. " +
				"Absent or null: customer.",
		},
	}
}

// channelFields describes the fields of channels.
func channelFields() operation.FieldDescriptions {
	shared := map[string]string{
		"enabled": "Whether the channel is set up and not switched off.",
		"status": "State of the channel as its provider says: not set up, working, failing, or switched off. The gateway " +
			"asks the provider at least every few minutes.",
		"phone_number": "Phone number of the channel in E.164 format.",
	}
	return operation.FieldDescriptions{
		"Channel": operation.Extend(shared, map[string]string{
			"address":       "Bot ID, phone number or workspace ID of the channel.",
			"channel":       "Name of the channel.",
			"error_message": "Why the channel fails, in the words of the provider. Null: it does not.",
			"warnings": "What staff should know although the channel may work, such as why a request to its webhook was " +
				"refused last. It never changes the status.",
			"last_event_at": "When the provider last sent an event. Null: never.",
			"webhook_url": "URL that the provider calls. Null if the provider calls none, for example when the gateway " +
				"polls.",
		}),
		"Phone": operation.Extend(shared, map[string]string{
			"webhook_url": "URL that Twilio calls for incoming messages.",
		}),
		"PhoneSetUp": operation.Extend(shared, map[string]string{
			"account_sid": "SID of the Twilio account.",
			"auth_token":  "Auth token of the Twilio account. It is stored encrypted and never shown.",
			"overlap_seconds": "How long the previous auth token stays valid for signatures, in seconds. Default: one " +
				"day. 0 ends it immediately.",
		}),
		"Telegram": operation.Extend(shared, map[string]string{
			"bot_username":  "User name of the bot.",
			"has_bot_token": "Whether a bot token is stored.",
			"instance_id":   "ID of the instance.",
			"message":       "Result of the set-up, for staff.",
			"mode": "How the gateway receives messages: Telegram calls the webhook URL, or the gateway polls " +
				"Telegram.",
			"telegram_enabled":   "Whether the channel is set up and not switched off.",
			"webhook_registered": "Whether the webhook is registered with Telegram.",
			"webhook_url":        "URL that Telegram calls. Null when the gateway polls.",
		}),
		"TelegramSetUp": {
			"bot_token": "Token of the bot, from @BotFather. It is stored encrypted and never shown.",
			"mode":      "How the gateway receives messages. Default: webhook. Polling needs no public URL.",
			"overlap_seconds": "How long the previous webhook secret stays valid for requests in transit, in seconds. " +
				"Default: ten minutes. 0 ends it immediately.",
		},
		"Slack": operation.Extend(shared, map[string]string{
			"bot_user_id":  "Slack user ID of the bot.",
			"commands_url": "URL for the slash command /claim. Null in Socket Mode.",
			"mode": "How the gateway receives messages: Slack calls the webhook URL, or the gateway connects to Slack " +
				"(Socket Mode).",
			"team_id":     "ID of the Slack workspace.",
			"team_name":   "Name of the Slack workspace.",
			"webhook_url": "URL for event subscriptions. Null in Socket Mode.",
		}),
		"SlackSetUp": {
			"bot_token":      "Bot token of the Slack app (xoxb-…). It is stored encrypted and never shown.",
			"signing_secret": "Signing secret of the Slack app. It is stored encrypted and never shown.",
			"app_token": "App-level token (xapp-…) with the scope connections:write. With it, the gateway uses Socket " +
				"Mode, which needs no public URL. Without it, Slack calls the webhook URLs. It is stored encrypted and never " +
				"shown.",
			"overlap_seconds": "How long the previous signing secret stays valid, in seconds. Default: one day. 0 ends it " +
				"immediately.",
		},
	}
}

// keyFields describes the fields of API keys.
func keyFields() operation.FieldDescriptions {
	shared := map[string]string{
		"created_at":   "When the API key was created.",
		"expires_at":   "When the key expires. Null: never.",
		"hint":         "Last four characters of the key.",
		"id":           "ID of the API key.",
		"instance_id":  "Instance to which the key is limited. Null: all instances of the tenant.",
		"last_used_at": "When the key was last used, to the minute. Null: never.",
		"name":         "Name of the key.",
		"rate_limit_per_second": "Requests that the key may make in a second, with bursts of twice that. Beyond it, the " +
			"response is 429.",
		"revoked_at": "When the key was revoked. Null: it was not.",
		"scopes":     "Scopes of the key.",
	}
	return operation.FieldDescriptions{
		"Key": shared,
		"CreatedKey": operation.Extend(shared, map[string]string{
			"key": "The API key. It is shown once; only its hash is stored.",
		}),
		"NewKey": {
			"name": "Name of the key. It appears in lists and logs.",
			"role": "Gives the key the scopes of a role instead of single ones: admin (all), staff (reads, and works with " +
				"customers, identities, messages, deliveries and claims) or viewer (reads). A key limited to one instance " +
				"does not get channels:write. Each must be a scope of the calling key.",
			"scopes": "Scopes of the key. Each must be a scope of the calling key. Required unless there is a role.",
			"rate_limit_per_second": "Requests that the key may make in a second, with bursts of twice that. Default: 500. " +
				"It cannot exceed a limit of the calling key.",
			"instance_id": "Instance to which the key is limited. Absent or null: all instances of the tenant.",
			"expires_at":  "When the key expires. Absent or null: never.",
		},
		"Rotation": {
			"overlap_seconds": "How long the previous key stays valid, in seconds. Default: one day. 0 ends it immediately.",
		},
	}
}

// eventFields describes the fields of the audit log.
func eventFields() operation.FieldDescriptions {
	return operation.FieldDescriptions{
		"Event": {
			"actor": "Who caused the event: key: and the ID of an API key, user: and a member of staff, sender: and the " +
				"ID of an identity, agent: and the ID of an instance, or system.",
			"actor_name":  "Name of the API key or the member of staff, if known.",
			"at":          "When it happened.",
			"customer_id": "Customer concerned, if any.",
			"detail":      "Further facts, by name.",
			"id":          "ID of the event.",
			"identity_id": "Identity concerned, if any.",
			"instance_id": "Instance concerned, if any.",
			"kind":        "Kind of the event, such as identity.linked.",
			"message_id":  "Message concerned, if any.",
		},
	}
}
