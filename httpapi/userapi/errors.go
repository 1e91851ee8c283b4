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
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"status", "message"},
		Description: "What went wrong on our side has status and message alone.",
		Properties: map[string]*huma.Schema{
			"status": {Type: huma.TypeInteger}, "name": text(), "message": text(),
			"details": {Type: huma.TypeObject, Required: []string{"code"}, Properties: map[string]*huma.Schema{
				"code": text(),
				"errors": {Type: huma.TypeArray, Description: "Everything that is wrong with the request.", Items: &huma.Schema{
					Type:       huma.TypeObject,
					Required:   []string{"field", "message"},
					Properties: map[string]*huma.Schema{"field": text(), "message": text()},
				}},
			}},
		},
	}
}

const exampleUser = `{"id":` + operation.ExampleID + `,"firstName":"Steve","lastName":"Example","context":"Support","source":"webchat","fkId":"123456",
	"fkUserId":"123456","email":"steve@example.com","phoneNumber":"+61400111222","metadata":{"customData":{"tier":"gold"}},"isAnonymized":false}`

func userExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"create_user": {Request: `{"firstName":"Steve","lastName":"Example","email":"steve@example.com","phoneNumber":"+61400111222","fkId":"123456","fkUserId":"123456",
			"context":"Support","source":"webchat","customData":{"tier":"gold"},"skipPhoneNumberValidation":false,"skipEmailValidation":false}`, Response: exampleUser},
		"search_user": {Response: `{"user":` + exampleUser + `,"conversationIds":["01930f6e-7a3c-7d42-8b11-2f0e9d8c7b6a"]}`},
		"get_user":    {Response: exampleUser},
		"delete_user": {},
	}
}
