package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
)

// contactSurface is that of contact identities: the API keys of the native one open
// it.
func contactSurface() *surface {
	return &surface{
		prefixes: []string{"/global/", "/v4/"}, authorize: (*API).authorize, formatError: formatContactError,
		errorSchema: "ContactError", statuses: []int{400, 401, 403, 429, 500, 503},
		security:       []map[string][]string{{"bearer": {}}, {"apiKey": {}}},
		describeAccess: func(to *route) string { return "Needs the scope `" + to.scope + "`." },
	}
}

// A contactError is how this surface says no.
type contactError struct {
	ErrorCode string `json:"errorCode"`
	Message   string `json:"message"`
}

func formatContactError(p *fastapi.Problem) any {
	return contactError{ErrorCode: contactErrorCode(p.Status), Message: p.Summary()}
}

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
		Properties: map[string]*huma.Schema{"errorCode": {Type: huma.TypeString}, "message": {Type: huma.TypeString}},
	}
}

const exampleContactIdentity = `{"id":` + exampleID + `,"contactId":` + exampleInstanceID + `,"contactIdentityType":"Twitter","name":"Steve","value":"1361654692588728354",
	"avatarUrl":"https://images.example.com/steve.png","infoUrl":"https://social.example.com/users/steve","screenName":"@steve",
	"originalContactPageUrl":"https://social.example.com/steve"}`

const exampleNewContactIdentity = `{"contactIdentityType":"Twitter","value":"1361654692588728354","avatarUrl":"https://images.example.com/steve.png",
	"infoUrl":"https://social.example.com/users/steve","screenName":"@steve","originalContactPageUrl":"https://social.example.com/steve"}`

func contactExamples() map[string]example {
	all := map[string]example{
		"list_contact_identities": {"", `{"contactIdentities":[` + exampleContactIdentity + `],"nextPage":null,"previousPage":null,"total":1}`},
		"get_contact_identity":    {"", exampleContactIdentity},
		"create_contact_identity": {exampleNewContactIdentity, exampleContactIdentity},
		"update_contact_identity": {exampleNewContactIdentity, exampleContactIdentity},
		"delete_contact_identity": {},
	}
	for _, id := range sortedKeys(all) {
		all[id+v4Suffix] = all[id]
	}
	return all
}
