package userapi

import "hydragate/httpapi/operation"

// userFields describes the fields of conversation users.
func userFields() operation.FieldDescriptions {
	shared := map[string]string{
		"firstName": "First name.",
		"lastName":  "Last name.",
		"context":   "Free text that describes the user.",
		"source":    "Where the user comes from.",
		"fkUserId":  "Second ID of the user in your own system.",
	}
	return operation.FieldDescriptions{
		"User": operation.Extend(shared, map[string]string{
			"id":           "ID of the user.",
			"fkId":         "ID of the user in your own system.",
			"email":        "Email address.",
			"phoneNumber":  "Phone number in E.164 format.",
			"metadata":     "Data of the user.",
			"isAnonymized": "Whether the personal data of the user was removed. Always false: such users are not found.",
		}),
		"NewUser": operation.Extend(shared, map[string]string{
			"email": "Email address, unique in the tenant. At least one of email, phoneNumber and fkId is required.",
			"phoneNumber": "Phone number with country code, unique in the tenant. It also becomes an unverified SMS " +
				"identity of the user in this instance.",
			"fkId":                      "ID of the user in your own system, unique in the tenant.",
			"customData":                "Data of your own, returned as metadata.customData.",
			"skipPhoneNumberValidation": "Store the phone number even if it is not valid.",
			"skipEmailValidation":       "Store the email address even if it is not valid.",
		}),
		"UserFound": {
			"user":            "The user.",
			"conversationIds": "Conversations of the user with this instance, oldest first.",
		},
	}
}
