package contactapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
)

// A contactError is the body of an error response.
type contactError struct {
	ErrorCode string `json:"errorCode"`
	Message   string `json:"message"`
}

func formatContactError(p *fastapi.Problem) any {
	return contactError{ErrorCode: contactErrorCode(p.Status), Message: p.Summary()}
}

// contactErrorCode returns the error code for a status.
func contactErrorCode(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return "BadRequest"
	case http.StatusUnauthorized:
		return "Unauthorized"
	case http.StatusForbidden:
		return "Forbidden"
	case http.StatusNotFound:
		return "NotFound"
	case http.StatusMethodNotAllowed:
		return "MethodNotAllowed"
	case http.StatusConflict:
		return "Conflict"
	case http.StatusRequestEntityTooLarge:
		return "PayloadTooLarge"
	case http.StatusUnsupportedMediaType:
		return "UnsupportedMediaType"
	case http.StatusTooManyRequests:
		return "TooManyRequests"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	}
	return "InternalServerError"
}

func contactErrorSchema() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"errorCode", "message"},
		Description: "An error.",
		Properties: map[string]*huma.Schema{
			"errorCode": {Type: huma.TypeString, Description: "Code of the error."},
			"message":   {Type: huma.TypeString, Description: "What is wrong."},
		},
	}
}

const exampleContactIdentity = `{"id":` + operation.ExampleID + `,"contactId":` + operation.ExampleInstanceID + `,
	"contactIdentityType":"Twitter","name":"Steve","value":"1361654692588728354",
	"avatarUrl":"https://images.example.com/steve.png","infoUrl":"https://social.example.com/users/steve",
	"screenName":"@steve","originalContactPageUrl":"https://social.example.com/steve"}`

const exampleNewContactIdentity = `{"contactIdentityType":"Twitter","value":"1361654692588728354",
	"avatarUrl":"https://images.example.com/steve.png",
	"infoUrl":"https://social.example.com/users/steve","screenName":"@steve",
	"originalContactPageUrl":"https://social.example.com/steve"}`

func contactExamples() map[string]operation.Example {
	return map[string]operation.Example{
		"contact_list_identities": {
			Response: `{"contactIdentities":[` + exampleContactIdentity + `],"nextPage":null,"previousPage":null,"total":1}`,
		},
		"contact_get_identity":     {Response: exampleContactIdentity},
		"contact_create_identity":  {Request: exampleNewContactIdentity, Response: exampleContactIdentity},
		"contact_replace_identity": {Request: exampleNewContactIdentity, Response: exampleContactIdentity},
		"contact_delete_identity":  {},
	}
}

// contactDescriptions returns the descriptions of the operations by ID, without the suffix of the version.
func contactDescriptions() map[string]string {
	return map[string]string{
		"contact_list_identities": "Lists the identities of customers and unknown senders, 50 to a page.",
		"contact_get_identity":    "Returns one contact identity.",
		"contact_create_identity": "Creates an unverified identity, for a contact or for none.",
		"contact_replace_identity": "Replaces a contact identity as a whole. Optional fields that are absent become null, " +
			"except for name, which keeps the name that the channel reports.",
		"contact_delete_identity": "Deletes a contact identity.",
	}
}
