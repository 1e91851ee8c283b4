package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"hydragate/gateway"
	"hydragate/identity"
)

const (
	agentSecretKey = "Agent-Secret-Key"
	tagUsers       = "Conversation users"
)

func (a *API) userRoutes() []*route {
	s := userSurface()
	const users, user = "/external/users", "/external/users/{id}"
	return []*route{
		{surface: s, id: "create_user", method: "POST", path: users, tag: tagUsers, summary: "Create a conversation user", status: 201, answer: do(a.createUser)},
		{surface: s, id: "search_user", method: "GET", path: users + "/search", tag: tagUsers, summary: "Find a conversation user", status: 200, answer: do(a.searchUser), traits: mayMiss},
		{surface: s, id: "get_user", method: "GET", path: user, tag: tagUsers, summary: "Get a conversation user", status: 200, answer: do(a.getUser)},
		{surface: s, id: "delete_user", method: "DELETE", path: user, tag: tagUsers, summary: "Delete a conversation user", status: 204, answer: do(a.deleteUser)},
	}
}

// letInAgent finds the instance whose key is in the header. Whatever is wrong with
// the key, the answer is the same.
func letInAgent(a *API, _ *route, r *http.Request) error {
	keys := r.Header.Values(agentSecretKey)
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > maxToken {
		return wrongAgentKey()
	}
	i, err := a.Users.Agent(r.Context(), identity.HashToken(keys[0]))
	if errors.Is(err, gateway.ErrNoInstance) {
		return wrongAgentKey()
	}
	if err != nil {
		return err
	}
	recordOf(r.Context()).key = identity.APIKey{TenantID: i.TenantID, InstanceID: i.ID}
	if wait := a.budgets.spend("agent:"+i.ID, a.Now(), a.Rate, a.Burst); wait > 0 {
		return tooMany(wait)
	}
	return nil
}

func wrongAgentKey() *problem {
	return refuse(http.StatusForbidden, "Invalid API key or secret key. Ensure that you are using a valid authentication key.")
}

func userNotFound(err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return refuse(http.StatusNotFound, "User not found.")
	}
	return err
}

// agentActor names the agent in the audit log.
func agentActor(caller identity.APIKey) identity.Actor {
	return identity.Actor("agent:" + caller.InstanceID)
}

type userAnswer struct {
	ID           string       `json:"id"`
	FirstName    *string      `json:"firstName"`
	LastName     *string      `json:"lastName"`
	Context      *string      `json:"context"`
	Source       *string      `json:"source"`
	FKID         *string      `json:"fkId"`
	FKUserID     *string      `json:"fkUserId"`
	Email        *string      `json:"email"`
	PhoneNumber  *string      `json:"phoneNumber"`
	Metadata     userMetadata `json:"metadata"`
	IsAnonymized bool         `json:"isAnonymized"`
}

// userMetadata is the part of a customer's metadata that users see.
type userMetadata struct {
	CustomData Object `json:"customData"`
}

func toUser(u User) userAnswer {
	v := userAnswer{
		ID: u.ID, FirstName: orNull(u.FirstName), LastName: orNull(u.LastName), Context: orNull(u.Context), Source: orNull(u.Source), FKID: orNull(u.FKID),
		FKUserID: orNull(u.FKUserID), Email: orNull(u.Email), PhoneNumber: orNull(u.PhoneNumber),
	}
	// Metadata is the caller's own, so that "customData" may be anything: what is not
	// an object is not shown.
	var kept struct {
		CustomData json.RawMessage `json:"customData"`
	}
	if json.Unmarshal(u.Metadata, &kept) == nil && strings.HasPrefix(string(kept.CustomData), "{") {
		v.Metadata.CustomData = Object(kept.CustomData)
	}
	return v
}

type newUser struct {
	FirstName                 string      `json:"firstName" minLength:"1" maxLength:"255"`
	LastName                  string      `json:"lastName" minLength:"1" maxLength:"255"`
	Email                     Opt[string] `json:"email,omitempty" minLength:"1" maxLength:"254" doc:"One of email, phoneNumber and fkId is needed; each is unique in the tenant."`
	PhoneNumber               Opt[string] `json:"phoneNumber,omitempty" minLength:"1" maxLength:"30" doc:"With the country code. The user is known by it on the SMS channel of the instance, unverified."`
	FKID                      Opt[string] `json:"fkId,omitempty" minLength:"1" maxLength:"255" doc:"The user's id in your own system."`
	FKUserID                  Opt[string] `json:"fkUserId,omitempty" maxLength:"255"`
	Context                   Opt[string] `json:"context,omitempty" maxLength:"4096"`
	Source                    Opt[string] `json:"source,omitempty" maxLength:"255"`
	CustomData                Opt[Object] `json:"customData,omitempty" doc:"Comes back as metadata.customData."`
	SkipPhoneNumberValidation Opt[bool]   `json:"skipPhoneNumberValidation,omitempty" doc:"Keep the number even when nobody could be called there."`
	SkipEmailValidation       Opt[bool]   `json:"skipEmailValidation,omitempty" doc:"Keep the address even when nobody could be written to there."`
}

type userOut struct{ Body userAnswer }

func (a *API) createUser(ctx context.Context, in *struct{ Body newUser }) (*userOut, error) {
	caller := callerOf(ctx)
	u, wrong := in.Body.user(caller.TenantID)
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	u, err := a.Users.CreateUser(ctx, caller.InstanceID, u, agentActor(caller))
	return &userOut{toUser(u)}, err
}

// user gives the user described, and what is wrong with the description.
func (b newUser) user(tenant string) (u User, wrong []violation) {
	email, phone, fk := strings.TrimSpace(b.Email.Value), strings.TrimSpace(b.PhoneNumber.Value), strings.TrimSpace(b.FKID.Value)
	if email == "" && phone == "" && fk == "" {
		wrong = append(wrong, valueError("at least one of email, phoneNumber and fkId is needed", "body"))
	}
	if email != "" && !b.SkipEmailValidation.Value {
		if _, bad := cleanEmail(email); bad != nil {
			wrong = append(wrong, valueError(bad.withoutPrefix(), "body", "email"))
		}
	}
	// A number that is one is kept in E.164 in any case: it would not be found otherwise.
	number, err := identity.Phone(phone)
	switch {
	case err == nil:
		phone = number
	case phone != "" && !b.SkipPhoneNumberValidation.Value:
		wrong = append(wrong, valueError(err.Error(), "body", "phoneNumber"))
	}
	u = User{
		Customer: identity.Customer{TenantID: tenant, FirstName: b.FirstName, LastName: b.LastName, Email: email, PhoneNumber: phone},
		FKID:     fk, FKUserID: b.FKUserID.Value, Source: b.Source.Value, Context: b.Context.Value,
	}
	if b.CustomData.Given {
		u.Metadata = json.RawMessage(`{"customData":` + string(b.CustomData.Value.raw()) + `}`)
	}
	return u, wrong
}

type userFound struct {
	User            userAnswer `json:"user"`
	ConversationIDs []string   `json:"conversationIds" nullable:"false" doc:"Of this agent, oldest first."`
}

func (a *API) searchUser(ctx context.Context, in *struct {
	Email       string `query:"email" minLength:"1" maxLength:"254" doc:"The whole address, without regard to case. Exactly one of the three is needed."`
	PhoneNumber string `query:"phoneNumber" minLength:"1" maxLength:"30" doc:"The whole number."`
	FKID        string `query:"fkId" minLength:"1" maxLength:"255" doc:"The whole id."`
}) (*struct{ Body userFound }, error) {
	q := UserQuery{Email: strings.TrimSpace(in.Email), Phone: strings.TrimSpace(in.PhoneNumber), FKID: strings.TrimSpace(in.FKID)}
	given := 0
	for _, filter := range []string{q.Email, q.Phone, q.FKID} {
		if filter != "" {
			given++
		}
	}
	if given != 1 {
		return nil, invalid(valueError("exactly one of email, phoneNumber and fkId is needed", "query"))
	}
	if number, err := identity.Phone(q.Phone); err == nil {
		q.Phone = number
	}
	caller := callerOf(ctx)
	u, conversations, err := a.Users.FindUser(ctx, caller.TenantID, caller.InstanceID, q)
	if err != nil {
		return nil, userNotFound(err)
	}
	return &struct{ Body userFound }{userFound{User: toUser(u), ConversationIDs: append([]string{}, conversations...)}}, nil
}

// UserPath names the user a call is about. An id that cannot be one is of nobody.
type UserPath struct {
	ID string `path:"id" maxLength:"255"`
}

func (p UserPath) user() (string, error) {
	id, reason := parseUUID(p.ID)
	if reason != "" {
		return "", userNotFound(identity.ErrNotFound)
	}
	return id, nil
}

func (a *API) getUser(ctx context.Context, in *UserPath) (*userOut, error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	u, err := a.Users.User(ctx, callerOf(ctx).TenantID, id)
	return &userOut{toUser(u)}, userNotFound(err)
}

func (a *API) deleteUser(ctx context.Context, in *UserPath) (*none, error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	caller := callerOf(ctx)
	return nil, userNotFound(a.Users.DeleteUser(ctx, caller.TenantID, id, agentActor(caller)))
}
