// Package userapi serves the conversation-user API below /external, for applications that were
// written for a product with that API. A user is a customer of the tenant. The package does not
// authenticate API keys of the native API.
package userapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// TagUsers is the OpenAPI tag of the operations.
const TagUsers = "Conversation users"

const (
	invalidKeyText        = "Invalid API key or secret key. Ensure that you are using a valid authentication key."
	userNotFoundText      = "User not found."
	verifiedElsewhereText = "An identity of this user is verified in another instance. " +
		"Delete the customer with an API key."
)

// agentSecretKey is the header that authenticates requests.
const agentSecretKey = "Agent-Secret-Key"

// An API is the surface of conversation users. An instance's agent secret key authenticates each
// request and determines the instance.
type API struct {
	Store    Store
	Limiter  *operation.RateLimiter
	Failures *operation.FailureLimiter // of authentications; default: a limiter of its own
	Proxies  operation.Proxies         // believed about the address of the client

	keys *operation.KeyLookup[gateway.Instance]
}

// Surface returns the routes of the surface and their description.
func (u *API) Surface() *operation.Surface {
	if u.Failures == nil {
		u.Failures = &operation.FailureLimiter{}
	}
	// Agent secret keys are not cached, so that a rotated key ends immediately.
	u.keys = &operation.KeyLookup[gateway.Instance]{
		Fetch: u.Store.InstancesByAgentKeys, Failures: u.Failures, Proxies: u.Proxies, Now: time.Now,
	}
	return &operation.Surface{
		Routes: u.routes(), Prefixes: []string{"/external/"},
		Authorize: u.authorizeAgent, FormatError: formatUserError,
		Tag: &huma.Tag{
			Name:        TagUsers,
			Description: "Compatible API: customers as conversation users of one instance.",
		},
		ErrorSchema: "UserError", Schema: userErrorSchema(), ErrorStatuses: []int{400, 403, 429, 500, 503},
		Security: []map[string][]string{{"agentSecretKey": {}}},
		SecuritySchemes: map[string]*huma.SecurityScheme{"agentSecretKey": {
			Type: "apiKey", In: "header", Name: agentSecretKey,
			Description: "The agent_secret_key of an instance. It identifies the instance, and is valid for this API only.",
		}},
		Descriptions: userFields(),
		DescribeAccess: func(*operation.Route) string {
			return "Requires the secret key of an instance in the header `Agent-Secret-Key`."
		},
	}
}

func (u *API) routes() []*operation.Route {
	const users, user = "/external/users", "/external/users/{id}"
	shown, described := userExamples(), userDescriptions()
	all := []*operation.Route{
		{
			ID: "external_create_user", Method: "POST", Path: users, Tag: TagUsers,
			Summary: "Create a conversation user", Status: 201, Handler: operation.Handle(u.createUser),
		},
		{
			ID:      "external_search_user",
			Method:  "GET",
			Path:    users + "/search",
			Tag:     TagUsers,
			Summary: "Find a conversation user",
			Status:  200,
			Handler: operation.Handle(u.searchUser),
			Traits:  operation.MayNotExist,
		},
		{
			ID: "external_get_user", Method: "GET", Path: user, Tag: TagUsers,
			Summary: "Get a conversation user", Status: 200, Handler: operation.Handle(u.getUser),
		},
		{
			ID: "external_delete_user", Method: "DELETE", Path: user, Tag: TagUsers,
			Summary: "Delete a conversation user", Status: 204, Handler: operation.Handle(u.deleteUser),
		},
	}
	for _, to := range all {
		to.Example, to.Description = shown[to.ID], described[to.ID]
		to.Example.Forbidden, to.Example.NotFound = invalidKeyText, userNotFoundText
	}
	return all
}

// authorizeAgent authenticates the instance whose agent secret key is in the header. The response
// does not depend on what is wrong with the key.
func (u *API) authorizeAgent(_ *operation.Route, r *http.Request) error {
	keys := r.Header.Values(agentSecretKey)
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > operation.MaxTokenBytes {
		return invalidAgentKey()
	}
	i, err := u.keys.Get(r, identity.HashToken(keys[0]))
	if errors.Is(err, identity.ErrNotFound) {
		return invalidAgentKey()
	}
	if err != nil {
		return err
	}
	operation.RequestInfoOf(r.Context()).Key = identity.APIKey{TenantID: i.TenantID, InstanceID: i.ID}
	return u.Limiter.Take("agent:"+i.ID, 0)
}

// invalidAgentKey returns the response to a missing or invalid key.
func invalidAgentKey() *fastapi.Problem {
	return fastapi.NewProblem(http.StatusForbidden, invalidKeyText)
}

// mapUserError replaces errors of the store by the responses of this surface.
func mapUserError(err error) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return fastapi.NewProblem(http.StatusNotFound, userNotFoundText)
	case errors.Is(err, identity.ErrVerifiedElsewhere):
		return fastapi.NewProblem(http.StatusForbidden, verifiedElsewhereText)
	}
	return err
}

// agentActor returns the actor of an instance in the audit log.
func agentActor(caller identity.APIKey) identity.Actor {
	return identity.Actor("agent:" + caller.InstanceID)
}

type userResponse struct {
	ID           string       `json:"id"`
	FirstName    string       `json:"firstName"`
	LastName     string       `json:"lastName"`
	Context      string       `json:"context,omitempty"`
	Source       string       `json:"source,omitempty"`
	FKID         string       `json:"fkId,omitempty"`
	FKUserID     string       `json:"fkUserId,omitempty"`
	Email        string       `json:"email,omitempty"`
	PhoneNumber  string       `json:"phoneNumber,omitempty"`
	Metadata     userMetadata `json:"metadata"`
	IsAnonymized bool         `json:"isAnonymized"`
}

// userMetadata is the part of a customer's metadata that belongs to the user.
type userMetadata struct {
	CustomData fastapi.Object `json:"customData"`
}

func toUser(u identity.User) userResponse {
	v := userResponse{
		ID:          u.ID,
		FirstName:   u.FirstName,
		LastName:    u.LastName,
		Context:     u.Context,
		Source:      u.Source,
		FKID:        u.FKID,
		FKUserID:    u.FKUserID,
		Email:       u.Email,
		PhoneNumber: u.PhoneNumber,
	}
	// The native API accepts any metadata, so that customData may be of another type. It is then
	// omitted.
	var metadata struct {
		CustomData json.RawMessage `json:"customData"`
	}
	if json.Unmarshal(u.Metadata, &metadata) == nil && strings.HasPrefix(string(metadata.CustomData), "{") {
		v.Metadata.CustomData = fastapi.Object(metadata.CustomData)
	}
	return v
}

type newUser struct {
	FirstName                 string                           `json:"firstName" minLength:"1" maxLength:"255"`
	LastName                  string                           `json:"lastName" minLength:"1" maxLength:"255"`
	Email                     fastapi.Optional[string]         `json:"email,omitempty" minLength:"1" maxLength:"254"`
	PhoneNumber               fastapi.Optional[string]         `json:"phoneNumber,omitempty" minLength:"1" maxLength:"30"`
	FKID                      fastapi.Optional[string]         `json:"fkId,omitempty" minLength:"1" maxLength:"255"`
	FKUserID                  fastapi.Optional[string]         `json:"fkUserId,omitempty" maxLength:"255"`
	Context                   fastapi.Optional[string]         `json:"context,omitempty" maxLength:"4096"`
	Source                    fastapi.Optional[string]         `json:"source,omitempty" maxLength:"255"`
	CustomData                fastapi.Optional[fastapi.Object] `json:"customData,omitempty"`
	SkipPhoneNumberValidation fastapi.Optional[bool]           `json:"skipPhoneNumberValidation,omitempty"`
	SkipEmailValidation       fastapi.Optional[bool]           `json:"skipEmailValidation,omitempty"`
}

type userOut struct{ Body userResponse }

func (u *API) createUser(ctx context.Context, in *struct{ Body newUser }) (*userOut, error) {
	caller := operation.CallerOf(ctx)
	user, violations := in.Body.parse(ctx, caller.TenantID)
	if len(violations) > 0 {
		return nil, fastapi.ValidationProblem(violations...)
	}
	user, err := u.Store.CreateUser(ctx, caller.InstanceID, user, agentActor(caller))
	return &userOut{toUser(user)}, err
}

// parse returns the user that the body describes, and the violations of rules that are not part of
// the schema.
func (b newUser) parse(ctx context.Context, tenant string) (u identity.User, violations []fastapi.Violation) {
	email, phone := strings.TrimSpace(b.Email.Value), strings.TrimSpace(b.PhoneNumber.Value)
	fkID := strings.TrimSpace(b.FKID.Value)
	if email == "" && phone == "" && fkID == "" {
		const reason = "at least one of email, phoneNumber and fkId is required"
		violations = append(violations, fastapi.ValueError(reason, "body"))
	}
	if email != "" && !b.SkipEmailValidation.Value {
		if _, violation := fastapi.CleanEmail(email); violation != nil {
			violations = append(violations, fastapi.ValueError(violation.Message(), "body", "email"))
		}
	}
	// A valid number is always stored in E.164 format, so that it can be found.
	number, err := operation.NormalizePhone(ctx, phone, "")
	switch {
	case err == nil:
		phone = number
	case phone != "" && !b.SkipPhoneNumberValidation.Value:
		violations = append(violations, fastapi.ValueError(err.Error(), "body", "phoneNumber"))
	}
	u = identity.User{
		Customer: identity.Customer{
			TenantID: tenant, FirstName: b.FirstName, LastName: b.LastName, Email: email, PhoneNumber: phone,
		},
		FKID: fkID, FKUserID: b.FKUserID.Value, Source: b.Source.Value, Context: b.Context.Value,
	}
	if b.CustomData.IsSet {
		u.Metadata = json.RawMessage(`{"customData":` + string(b.CustomData.Value.Raw()) + `}`)
	}
	return u, violations
}

type userFound struct {
	User            userResponse `json:"user"`
	ConversationIDs []string     `json:"conversationIds" nullable:"false"`
}

func (u *API) searchUser(ctx context.Context, in *struct {
	Email       string `query:"email" minLength:"1" maxLength:"254" doc:"Whole email address, regardless of case. Exactly one of the three parameters is required."`
	PhoneNumber string `query:"phoneNumber" minLength:"1" maxLength:"30" doc:"Whole phone number."`
	FKID        string `query:"fkId" minLength:"1" maxLength:"255" doc:"Whole ID in your own system."`
},
) (*struct{ Body userFound }, error) {
	q := identity.UserQuery{
		Email: strings.TrimSpace(in.Email), Phone: strings.TrimSpace(in.PhoneNumber), FKID: strings.TrimSpace(in.FKID),
	}
	filters := 0
	for _, filter := range []string{q.Email, q.Phone, q.FKID} {
		if filter != "" {
			filters++
		}
	}
	if filters != 1 {
		return nil, fastapi.ValidationProblem(fastapi.ValueError(
			"exactly one of email, phoneNumber and fkId is required", "query",
		))
	}
	if number, err := operation.NormalizePhone(ctx, plusForSpace(in.PhoneNumber), ""); err == nil {
		q.Phone = number
	}
	caller := operation.CallerOf(ctx)
	user, conversations, err := u.Store.FindUser(ctx, caller.TenantID, caller.InstanceID, q)
	if err != nil {
		return nil, mapUserError(err)
	}
	return &struct{ Body userFound }{
		userFound{User: toUser(user), ConversationIDs: append([]string{}, conversations...)},
	}, nil
}

// plusForSpace returns a query parameter with the plus sign that it had before it was decoded, if the plus
// sign was not escaped.
func plusForSpace(number string) string {
	if rest, found := strings.CutPrefix(number, " "); found {
		return "+" + rest
	}
	return number
}

// UserPath is the path parameter of a user. An ID that is not a UUID is not found.
type UserPath struct {
	ID string `path:"id" maxLength:"255" doc:"ID of the user."`
}

func (p UserPath) userID() (string, error) {
	id, reason := fastapi.ParseUUID(p.ID)
	if reason != "" {
		return "", mapUserError(identity.ErrNotFound)
	}
	return id, nil
}

func (u *API) getUser(ctx context.Context, in *UserPath) (*userOut, error) {
	id, err := in.userID()
	if err != nil {
		return nil, err
	}
	caller := operation.CallerOf(ctx)
	user, err := u.Store.User(ctx, caller.TenantID, caller.InstanceID, id)
	return &userOut{toUser(user)}, mapUserError(err)
}

func (u *API) deleteUser(ctx context.Context, in *UserPath) (*operation.NoBody, error) {
	id, err := in.userID()
	if err != nil {
		return nil, err
	}
	caller := operation.CallerOf(ctx)
	return nil, mapUserError(u.Store.DeleteUser(ctx, caller.TenantID, caller.InstanceID, id, agentActor(caller)))
}
