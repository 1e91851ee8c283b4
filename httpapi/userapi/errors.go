package userapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// userExistsText is the only message that is a sentence instead of a code.
const userExistsText = "User already exists."

// A userError is the body of an error response. The message is a code. Internal errors have only a
// status and a message.
type userError struct {
	Status  int           `json:"status"`
	Name    string        `json:"name,omitempty"`
	Message string        `json:"message"`
	Details []errorDetail `json:"details,omitempty"`
}

// An errorDetail says what is wrong, and with which field if the request is not valid.
type errorDetail struct {
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

func formatUserError(p *fastapi.Problem) any {
	name, code := userErrorName(p.Status)
	if name == "" {
		return userError{Status: p.Status, Message: p.Summary()}
	}
	e := userError{Status: p.Status, Name: name, Message: code}
	if p.Detail == userExistsText {
		e.Message = userExistsText
	}
	for _, v := range p.Violations {
		e.Details = append(e.Details, errorDetail{v.FieldPath(), v.Message()})
	}
	if e.Details == nil {
		e.Details = []errorDetail{{Message: p.Detail}}
	}
	return e
}

// userErrorName returns the name and the code of an error with a status.
func userErrorName(status int) (name, code string) {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return "BAD_REQUEST", "INVALID_REQUEST"
	case http.StatusForbidden:
		return "FORBIDDEN_ERROR", "INVALID_CREDENTIALS"
	case http.StatusNotFound:
		return "ENTITY_NOT_FOUND_ERROR", "ENTITY_NOT_FOUND"
	case http.StatusMethodNotAllowed:
		return "METHOD_NOT_ALLOWED_ERROR", "METHOD_NOT_ALLOWED"
	case http.StatusRequestEntityTooLarge:
		return "PAYLOAD_TOO_LARGE_ERROR", "PAYLOAD_TOO_LARGE"
	case http.StatusUnsupportedMediaType:
		return "UNSUPPORTED_MEDIA_TYPE_ERROR", "UNSUPPORTED_MEDIA_TYPE"
	case http.StatusTooManyRequests:
		return "TOO_MANY_REQUESTS_ERROR", "RATE_LIMIT_EXCEEDED"
	}
	return "", ""
}

func userErrorSchema() *huma.Schema {
	text := func(meaning string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: meaning} }
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"status", "message"},
		Description: "An error. Errors of the gateway have only status and message.",
		Properties: map[string]*huma.Schema{
			"status":  {Type: huma.TypeInteger, Description: "HTTP status of the response."},
			"name":    text("Name of the error. Absent for errors of the gateway."),
			"message": text("Code of the error, or \"User already exists.\"."),
			"details": {
				Type:        huma.TypeArray,
				Description: "What is wrong: every violation if the request is not valid. Absent for errors of the gateway.",
				Items: &huma.Schema{
					Type:     huma.TypeObject,
					Required: []string{"message"},
					Properties: map[string]*huma.Schema{
						"field":   text("Field or parameter that is wrong, if the request is not valid."),
						"message": text("What is wrong."),
					},
				},
			},
		},
	}
}

const exampleUser = `{"id":` + operation.ExampleID + `,"firstName":"Steve","lastName":"Example","context":"Support",
	"source":"webchat","fkId":"123456","fkUserId":"123456","email":"steve@example.com","phoneNumber":"+61400111222",
	"metadata":{"customData":{"tier":"gold"}},"isAnonymized":false}`

func userExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"external_create_user": {
			BadRequest: userExistsText,
			Request: `{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222",
				"fkId":"123456","fkUserId":"123456",
			"context":"Support","source":"webchat","customData":{"tier":"gold"},"skipPhoneNumberValidation":false,
			"skipEmailValidation":false}`,
			Response: exampleUser,
		},
		"external_search_user": {
			Response: `{"user":` + exampleUser + `,"conversationIds":["01930f6e-7a3c-7d42-8b11-2f0e9d8c7b6a"]}`,
		},
		"external_get_user":    {Response: exampleUser},
		"external_delete_user": {},
	}
}

// userDescriptions returns the descriptions of the operations by ID.
func userDescriptions() map[string]string {
	return map[string]string{
		"external_create_user": "Creates a customer of the tenant, whom this instance sees. Email address, phone " +
			"number and fkId must not be taken by any customer of the tenant.",
		"external_search_user": "Finds a user that this instance sees by exactly one of email, phoneNumber and fkId, " +
			"and lists the conversations with this instance.",
		"external_get_user": "Returns a user that this instance created, or who has an identity or a conversation in " +
			"this instance. Other users are not found.",
		"external_delete_user": "Deletes a user that this instance sees, and unlinks all identities of the user. If one " +
			"of them is verified in another instance, the response is 403 and nothing changes: delete the customer with an " +
			"API key instead.",
	}
}
