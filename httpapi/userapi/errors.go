package userapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// A userError is the body of an error response. Internal errors have only a status and a message.
type userError struct {
	Status  int            `json:"status"`
	Name    string         `json:"name,omitempty"`
	Message string         `json:"message"`
	Details map[string]any `json:"details,omitempty"`
}

func formatUserError(p *fastapi.Problem) any {
	e := userError{Status: p.Status, Message: p.Summary()}
	name, code := userErrorName(p.Status)
	if name == "" {
		return e
	}
	e.Name, e.Details = name, map[string]any{"code": code}
	if p.Violations != nil {
		fields := make([]map[string]string, len(p.Violations))
		for i, v := range p.Violations {
			fields[i] = map[string]string{"field": v.FieldPath(), "message": v.Message()}
		}
		e.Details["errors"] = fields
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
			"message": text("What is wrong."),
			"details": {
				Type:        huma.TypeObject,
				Description: "Further facts about the error. Absent for errors of the gateway.",
				Required:    []string{"code"},
				Properties: map[string]*huma.Schema{
					"code": text("Code of the error."),
					"errors": {Type: huma.TypeArray, Description: "Every violation, if the request is not valid.", Items: &huma.Schema{
						Type:     huma.TypeObject,
						Required: []string{"field", "message"},
						Properties: map[string]*huma.Schema{
							"field":   text("Field or parameter that is wrong."),
							"message": text("What is wrong with it."),
						},
					}},
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
			BadRequest: "User already exists.",
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
		"external_create_user": "Creates a customer of the tenant, who belongs to this instance. Email address, phone " +
			"number and fkId must not be taken.",
		"external_search_user": "Finds a user of this instance by exactly one of email, phoneNumber and fkId, and lists " +
			"the conversations with this instance.",
		"external_get_user":    "Returns one user.",
		"external_delete_user": "Deletes a user and unlinks all identities of the user.",
	}
}
