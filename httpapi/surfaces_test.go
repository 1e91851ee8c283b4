package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hydragate/gateway"
	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
	"hydragate/identity"
)

// fakeSurfaces answers with one user and one contact identity, or with err.
type fakeSurfaces struct {
	err    error
	panics bool
}

func (f *fakeSurfaces) user() (identity.User, error) {
	if f.panics {
		panic("the store fell over with hg_live_canary")
	}
	return identity.User{
		Customer: identity.Customer{ID: unknownID, FirstName: "Steve", LastName: "Example", Email: "steve@example.com", PhoneNumber: "+61400111222", Metadata: []byte(`{"customData":{"tier":"gold"},"own":1}`)},
		FKID:     "1", FKUserID: "2", Source: "webchat", Context: "Support",
	}, f.err
}

func (f *fakeSurfaces) contact() (identity.ContactIdentity, error) {
	if f.panics {
		panic("the store fell over with hg_live_canary")
	}
	return identity.ContactIdentity{
		Identity:  identity.Identity{ID: unknownID, CustomerID: unknownID, Channel: "twitter", ExternalID: "1", DisplayName: "Steve", Username: "@steve"},
		AvatarURL: "https://a.example.com", InfoURL: "https://b.example.com", PageURL: "https://c.example.com",
	}, f.err
}

func (f *fakeSurfaces) InstanceByAgentKey(_ context.Context, hash string) (gateway.Instance, error) {
	if hash != identity.HashToken("ask_1") {
		return gateway.Instance{}, gateway.ErrNoInstance
	}
	return gateway.Instance{ID: unknownID, TenantID: identity.DefaultTenant}, nil
}

func (f *fakeSurfaces) CreateUser(context.Context, string, identity.User, identity.Actor) (identity.User, error) {
	return f.user()
}

func (f *fakeSurfaces) User(context.Context, string, string) (identity.User, error) { return f.user() }

func (f *fakeSurfaces) FindUser(context.Context, string, string, identity.UserQuery) (identity.User, []string, error) {
	u, err := f.user()
	return u, []string{unknownID}, err
}

func (f *fakeSurfaces) DeleteUser(context.Context, string, string, identity.Actor) error {
	_, err := f.user()
	return err
}

func (f *fakeSurfaces) ContactIdentities(context.Context, identity.ContactQuery) ([]identity.ContactIdentity, int, error) {
	i, err := f.contact()
	return []identity.ContactIdentity{i}, 1, err
}

func (f *fakeSurfaces) ContactIdentity(context.Context, string, string) (identity.ContactIdentity, error) {
	return f.contact()
}

func (f *fakeSurfaces) CreateContactIdentity(context.Context, identity.ContactIdentity, identity.Actor) (identity.ContactIdentity, error) {
	return f.contact()
}

func (f *fakeSurfaces) ReplaceContactIdentity(context.Context, identity.ContactIdentity, *string, identity.Actor) (identity.ContactIdentity, error) {
	return f.contact()
}

func (f *fakeSurfaces) DeleteContactIdentity(context.Context, identity.SenderKey, identity.Actor) error {
	_, err := f.contact()
	return err
}

func newSurfaceHarness(t *testing.T, change ...func(*API)) (*harness, *fakeSurfaces) {
	f := &fakeSurfaces{}
	return newHarness(t, append([]func(*API){func(a *API) {
		users, contacts := &userapi.API{Store: f, Limiter: a.Limiter}, &contactapi.API{Store: f}
		a.Surfaces = []*operation.Surface{users.Surface(), contacts.Surface()}
	}}, change...)...), f
}

// requestSurface calls a route of a surface with its example and the key that opens it.
func (w *harness) requestSurface(to *operation.Route) response {
	path := strings.ReplaceAll(to.Path, "{id}", unknownID)
	if to.ID == "search_user" {
		path += "?fkId=1"
	}
	return w.request(to.Method, path, to.Example.Request, "Agent-Secret-Key: ask_1")
}

func TestSurface_MatchesExamples(t *testing.T) {
	w, _ := newSurfaceHarness(t)
	for _, to := range w.api.surfaceRoutes() {
		got := w.requestSurface(to)
		w.expect(got, to.Status, "")
		if to.Status == 204 {
			w.expect(got, 204, "")
			continue
		}
		var want, have any
		if err := errors.Join(json.Unmarshal([]byte(to.Example.Response), &want), json.Unmarshal([]byte(got.body), &have)); err != nil {
			t.Fatalf("%s: %v", to.ID, err)
		}
		if !sameShape(want, have) {
			t.Errorf("%s: got %s\nlike %s", to.ID, got.body, to.Example.Response)
		}
	}
}

// TestSurface_Failures makes every route of the surfaces fail in each way that is ours.
func TestSurface_Failures(t *testing.T) {
	w, f := newSurfaceHarness(t)
	for name, c := range map[string]struct {
		err            error
		explode        bool
		status         int
		user, contacts string
	}{
		"Unexpected": {errors.New("dial: canary"), false, 500, `{"status":500,"message":"Internal Server Error"}`, `{"errorCode":"InternalServerError","message":"Internal Server Error"}`},
		"Panic":      {nil, true, 500, `{"status":500,"message":"Internal Server Error"}`, `{"errorCode":"InternalServerError","message":"Internal Server Error"}`},
		"Late":       {context.DeadlineExceeded, false, 503, `{"status":503,"message":"Service Unavailable"}`, `{"errorCode":"ServiceUnavailable","message":"Service Unavailable"}`},
	} {
		f.err, f.panics = c.err, c.explode
		for _, to := range w.api.surfaceRoutes() {
			want := c.contacts
			if to.Tag == userapi.TagUsers {
				want = c.user
			}
			if got := w.requestSurface(to); got.status != c.status || got.body != want || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %s %v", name, to.ID, got.status, got.body, got.header)
			}
		}
	}
	if log := w.log.String(); !strings.Contains(log, "handler panicked") || strings.Contains(log, "hg_live_canary") {
		t.Errorf("log: %s", log)
	}
}

func TestSurface_RateLimit(t *testing.T) {
	w, _ := newSurfaceHarness(t, func(a *API) { a.Limiter.Rate, a.Limiter.Burst = 1, 1 })
	w.expect(w.request("GET", "/external/users/"+unknownID, "", "Agent-Secret-Key: ask_1"), 200, "")
	got := w.request("GET", "/external/users/"+unknownID, "", "Agent-Secret-Key: ask_1")
	w.expect(got, 429, `{"status":429,"name":"TOO_MANY_REQUESTS_ERROR","message":"Too Many Requests","details":{"code":"RATE_LIMIT_EXCEEDED"}}`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", got.header)
	}
	w.expect(w.request("GET", "/v4/global/contactIdentities", ""), 200, "")
	w.expect(w.request("GET", "/v4/global/contactIdentities", ""), 429, `{"errorCode":"TooManyRequests","message":"Too Many Requests"}`)
}

// TestSurface_Disabled: without a store for them nothing of them is.
func TestSurface_Disabled(t *testing.T) {
	w := newHarness(t)
	w.expect(w.request("GET", "/external/users/"+unknownID, "", "Agent-Secret-Key: ask_1"), 404, `{"detail":"Not Found"}`)
	w.expect(w.request("GET", "/global/contactIdentities", ""), 404, `{"detail":"Not Found"}`)
	if strings.Contains(w.request("GET", "/openapi.json", "").body, "contactIdentities") {
		t.Error("in the document all the same")
	}
}

func TestSurface_OpenAPI(t *testing.T) {
	w, _ := newSurfaceHarness(t)
	var doc struct {
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Tags       []struct{ Name string }              `json:"tags"`
		Components struct {
			Schemas         map[string]any `json:"schemas"`
			SecuritySchemes map[string]any `json:"securitySchemes"`
		} `json:"components"`
	}
	text := w.request("GET", "/openapi.json", "").body
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{userapi.TagUsers, contactapi.TagContacts} {
		if !slices.ContainsFunc(doc.Tags, func(d struct{ Name string }) bool { return d.Name == tag }) {
			t.Errorf("no tag %s", tag)
		}
	}
	for _, to := range w.api.surfaceRoutes() {
		op := doc.Paths[to.Path][strings.ToLower(to.Method)]
		if op == nil || op["operationId"] != to.ID || op["security"] == nil || strings.Contains(op["description"].(string), "``") {
			t.Errorf("%s: %v", to.ID, op)
			continue
		}
		responses := op["responses"].(map[string]any)
		for _, status := range append(to.Surface.RouteErrorStatuses(to), to.Status) {
			media := jsonMedia(responses[strconv.Itoa(status)])
			if status != 204 && (media["schema"] == nil || media["example"] == nil) {
				t.Errorf("%s %d: no schema or no example", to.ID, status)
			}
			if schema, _ := media["schema"].(map[string]any); status >= 400 && schema["$ref"] != operation.SchemaPrefix+to.Surface.ErrorSchema {
				t.Errorf("%s %d: %v", to.ID, status, schema)
			}
		}
		if responses["422"] != nil || strings.Contains(text, "ErrorModel") {
			t.Errorf("%s: an error of another surface", to.ID)
		}
	}
	for _, ref := range strings.Split(text, `"$ref":"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(ref, `"`); doc.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	if doc.Components.SecuritySchemes["agentSecretKey"] == nil {
		t.Error("no security scheme for agents")
	}
}
