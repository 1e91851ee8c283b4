package contactapi

import "hydragate/httpapi/operation"

// contactBodyFields describes the fields of contact identities.
func contactBodyFields() operation.FieldDescriptions {
	return operation.FieldDescriptions{
		"Contact": {
			"id":                     "ID of the contact identity.",
			"contactId":              "Contact to whom the identity belongs. Null: an unknown sender.",
			"contactIdentityType":    "Type of the identity, such as email or SMS.",
			"name":                   "Name of the account.",
			"value":                  "ID of the account, in normalized form.",
			"avatarUrl":              "URL of a picture.",
			"infoUrl":                "URL with information about the account.",
			"screenName":             "User name of the account.",
			"originalContactPageUrl": "URL of the page on which the contact was made.",
		},
		"ContactPage": {
			"contactIdentities": "Contact identities of this page, oldest first.",
			"nextPage":          "URL of the next page. Null: this is the last page.",
			"previousPage":      "URL of the previous page. Null: this is the first page.",
			"total":             "Number of contact identities on all pages.",
		},
		"ContactFields": {
			"contactIdentityType": "Type of the identity, regardless of case: visitor, email, SMS, Facebook, Twitter, " +
				"WeChat, ssoid, externalid, Whatsapp, inphase, Telegram or Slack.",
			"value": "ID of the account. SMS and Whatsapp: the phone number. Telegram: the numeric user ID. Slack: team " +
				"and user ID (T…:U…).",
			"contactId": "Contact to whom the identity belongs. Null: none yet.",
			"name": "Name of the account, for staff. It is never matched. Absent: the name that the channel " +
				"reports.",
			"avatarUrl":              "HTTPS URL of a picture. The gateway never fetches it.",
			"infoUrl":                "HTTPS URL with information about the account. The gateway never fetches it.",
			"screenName":             "User name of the account.",
			"originalContactPageUrl": "HTTPS URL of the page on which the contact was made. The gateway never fetches it.",
		},
	}
}
