//go:build unix

package harness

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// AuthHeader returns the headers that authorize an operation: the agent key for the external surface, or
// an API key.
func (op *APIOperation) AuthHeader(token string, th Entities) http.Header {
	if op.Surface == "external" {
		return http.Header{"Agent-Secret-Key": {th.AgentKey}}
	}
	return BearerHeader(token)
}

// ValidRequest returns a request of op with the entities that should succeed.
func (h *APIFixture) ValidRequest(op *APIOperation, th Entities) APIRequest {
	h.T.Helper()
	if channel, needs := op.RequiredChannel(); needs {
		if a := h.Send(h.ValidRequest(h.operation("set_up_"+channel), th)); a.Status != 200 {
			h.T.Fatalf("set up %s: %d %s", channel, a.Status, a.Body)
		}
	}
	return APIRequest{
		Method: op.Method,
		Path:   h.PathOf(op, op.PathIDs(h.T, th)) + h.queryFor(op, th),
		Body:   h.exampleBody(op, th),
		Header: op.AuthHeader(h.AdminKey, th),
	}
}

// RequiredChannel returns the channel that must be set up before op.
func (op *APIOperation) RequiredChannel() (name string, needs bool) {
	if op.ID == "issue_invite" {
		return "telegram", true
	}
	return strings.CutPrefix(op.ID, "remove_")
}

// operation returns the operation with an ID.
func (h *APIFixture) operation(id string) *APIOperation {
	h.T.Helper()
	at := slices.IndexFunc(h.Operations, func(op *APIOperation) bool { return op.ID == id })
	if at < 0 {
		h.T.Fatalf("unknown operation %s", id)
	}
	return h.Operations[at]
}

// A PreparedOperation is an operation with its own entities and a valid request.
type PreparedOperation struct {
	Operation *APIOperation
	Entities  Entities
	Request   APIRequest
}

// PrepareAll prepares the operations that include selects, so that the database does not change later.
func (h *APIFixture) PrepareAll(include func(*APIOperation) bool) (all []PreparedOperation) {
	h.T.Helper()
	for _, op := range h.Operations {
		if include(op) {
			entities := h.CreateEntities(TestTenantID)
			all = append(all, PreparedOperation{op, entities, h.ValidRequest(op, entities)})
		}
	}
	return all
}

// AnyOperation returns true.
func AnyOperation(*APIOperation) bool { return true }

// RequireUnchanged fails the test if the rows of the database have changed.
func (h *APIFixture) RequireUnchanged(before []string) {
	h.T.Helper()
	if row := DiffRows(before, h.AllRows("")); row != "" {
		h.T.Errorf("all requests were rejected, but there is a row %s", row)
	}
}

// SendAll sends the valid requests, which must succeed.
func (h *APIFixture) SendAll(all []PreparedOperation) {
	h.T.Helper()
	for _, s := range all {
		if a := h.Send(s.Request); a.Status != s.Operation.Status {
			h.T.Errorf("valid request of %s = %d %s", s.Operation.ID, a.Status, a.Body)
		}
	}
}

// RawQuery returns the query with the question mark, or "".
func (c APIRequest) RawQuery() string {
	if _, q, ok := strings.Cut(c.Path, "?"); ok {
		return "?" + q
	}
	return ""
}

// PathOf returns the path of an operation with the IDs.
func (h *APIFixture) PathOf(op *APIOperation, ids map[string]string) string {
	h.T.Helper()
	path := op.Path
	for name, id := range ids {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	if strings.Contains(path, "{") {
		h.T.Fatalf("%s: unknown path parameter", op.ID)
	}
	return path
}

// PathIDs returns the values of path parameters.
func (op *APIOperation) PathIDs(t *testing.T, th Entities) map[string]string {
	t.Helper()
	ids := map[string]string{
		"customer_id": th.CustomerID,
		"identity_id": th.IdentityID,
		"instance_id": th.InstanceID,
		"key_id":      th.APIKeyID,
		"invite_id":   th.inviteID,
	}
	switch op.ID {
	case "adopt_identity", "block_sender", "unblock_sender", "erase_sender":
		ids["identity_id"] = th.UnknownSenderID
	case "undo_merge":
		ids["customer_id"] = th.mergedCustomerID
	}
	switch op.Surface {
	case "external":
		ids["id"] = th.CustomerID
	case "global":
		ids["id"] = th.IdentityID
	}
	return ids
}

// queryFor returns the required query parameters.
func (h *APIFixture) queryFor(op *APIOperation, th Entities) string {
	h.T.Helper()
	if op.ID == "external_search_user" {
		return "?fkId=" + h.setExternalKey(th)
	}
	values := map[string]string{
		"channel": "telegram", "external_id": th.externalID, "customer": "none", "erase": "true",
	}
	if op.ID == "erase_address" {
		values["external_id"] = th.unknownExternalID
	}
	var parts []string
	for _, p := range op.Params {
		if p.In != "query" || !p.Required {
			continue
		}
		value, known := values[p.Name]
		if !known {
			h.T.Fatalf("%s: unknown query parameter %s", op.ID, p.Name)
		}
		parts = append(parts, p.Name+"="+value)
	}
	if op.ID == "lookup_identity" {
		parts = append(parts, "instance_id="+th.InstanceID)
	}
	if len(parts) == 0 {
		return ""
	}
	return "?" + strings.Join(parts, "&")
}

// setExternalKey sets a new external key of the customer and returns it.
func (h *APIFixture) setExternalKey(th Entities) string {
	fk := h.UniqueDigits()
	h.Exec(`update customers set fk_id = $1 where id = $2`, fk, th.CustomerID)
	return fk
}

// exampleBody returns the example of the document, with values that are unique or exist.
func (h *APIFixture) exampleBody(op *APIOperation, th Entities) string {
	h.T.Helper()
	if op.Body == nil {
		return ""
	}
	fields := map[string]any{}
	if err := json.Unmarshal(op.example, &fields); err != nil {
		h.T.Fatalf("%s: example of the body: %v", op.ID, err)
	}
	for name, value := range op.exampleValues(h, th) {
		if _, given := fields[name]; given {
			fields[name] = value
		}
	}
	b, err := json.Marshal(fields)
	h.Must(err)
	return string(b)
}

// exampleValues returns values for fields that must be unique or exist.
func (op *APIOperation) exampleValues(h *APIFixture, th Entities) map[string]any {
	n := h.UniqueDigits()
	switch op.ID { // each instance has addresses of its own
	case "set_up_sms", "set_up_whatsapp":
		h.Twilio.AddNumber(TwilioAccount, "+61400"+n)
		return map[string]any{"account_sid": TwilioAccount, "auth_token": TwilioToken, "phone_number": "+61400" + n}
	case "set_up_telegram":
		token := n + TelegramToken
		h.Telegram.AddBot(token, "bot_"+n)
		return map[string]any{"bot_token": token}
	case "set_up_slack":
		a := NewSlackApp("", "")
		a.AppID, a.Token = "A0"+n, SlackToken+"-"+n
		h.Slack.AddApp(a)
		return map[string]any{"bot_token": a.Token, "signing_secret": SlackSecret}
	}
	return map[string]any{
		"email": n + "@example.com", "external_id": n, "value": n, "fkId": n,
		"phone_number": "+61400" + n, "phoneNumber": "+61400" + n, "into": th.SecondCustomerID,
		"scopes": []string{"keys:write"}, "instance_id": th.InstanceID,
	}
}
