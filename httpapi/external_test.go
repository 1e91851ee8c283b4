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
	"hydragate/identity"
)

// fakeSurfaces answers with one user and one contact identity, or with err.
type fakeSurfaces struct {
	err     error
	explode bool
}

func (f *fakeSurfaces) user() (User, error) {
	if f.explode {
		panic("the store fell over with hg_live_canary")
	}
	return User{
		Customer: identity.Customer{ID: nobody, FirstName: "Steve", LastName: "Example", Email: "steve@example.com", PhoneNumber: "+61400111222", Metadata: []byte(`{"customData":{"tier":"gold"},"own":1}`)},
		FKID:     "1", FKUserID: "2", Source: "webchat", Context: "Support",
	}, f.err
}

func (f *fakeSurfaces) contact() (ContactIdentity, error) {
	if f.explode {
		panic("the store fell over with hg_live_canary")
	}
	return ContactIdentity{
		Identity:  identity.Identity{ID: nobody, CustomerID: nobody, Channel: "twitter", ExternalID: "1", DisplayName: "Steve", Username: "@steve"},
		AvatarURL: "https://a.example.com", InfoURL: "https://b.example.com", PageURL: "https://c.example.com",
	}, f.err
}

func (f *fakeSurfaces) Agent(_ context.Context, hash string) (gateway.Instance, error) {
	if hash != identity.HashToken("ask_1") {
		return gateway.Instance{}, gateway.ErrNoInstance
	}
	return gateway.Instance{ID: nobody, TenantID: identity.DefaultTenant}, nil
}

func (f *fakeSurfaces) CreateUser(context.Context, string, User, identity.Actor) (User, error) {
	return f.user()
}
func (f *fakeSurfaces) User(context.Context, string, string) (User, error) { return f.user() }
func (f *fakeSurfaces) FindUser(context.Context, string, string, UserQuery) (User, []string, error) {
	u, err := f.user()
	return u, []string{nobody}, err
}

func (f *fakeSurfaces) DeleteUser(context.Context, string, string, identity.Actor) error {
	_, err := f.user()
	return err
}

func (f *fakeSurfaces) ContactIdentities(context.Context, string, string, int, int) ([]ContactIdentity, int, error) {
	i, err := f.contact()
	return []ContactIdentity{i}, 1, err
}

func (f *fakeSurfaces) ContactIdentity(context.Context, string, string) (ContactIdentity, error) {
	return f.contact()
}

func (f *fakeSurfaces) CreateContactIdentity(context.Context, ContactIdentity, identity.Actor) (ContactIdentity, error) {
	return f.contact()
}

func (f *fakeSurfaces) ReplaceContactIdentity(context.Context, ContactIdentity, *string, identity.Actor) (ContactIdentity, error) {
	return f.contact()
}

func (f *fakeSurfaces) DeleteContactIdentity(context.Context, string, string, string, identity.Actor) error {
	_, err := f.contact()
	return err
}

func newSurfaces(t *testing.T, change ...func(*API)) (*world, *fakeSurfaces) {
	f := &fakeSurfaces{}
	return newWorld(t, append([]func(*API){func(a *API) { a.Users, a.Contacts = f, f }}, change...)...), f
}

// askSurface calls a route of a surface with its example and the key that opens it.
func (w *world) askSurface(to *route) reply {
	path := strings.ReplaceAll(to.path, "{id}", nobody)
	if to.id == "search_user" {
		path += "?fkId=1"
	}
	return w.ask(to.method, path, examples()[to.id].request, "Agent-Secret-Key: ask_1")
}

func TestSurfaceRoutesAnswerAsTheirExamplesShow(t *testing.T) {
	w, _ := newSurfaces(t)
	for _, to := range w.api.surfaceRoutes() {
		got := w.askSurface(to)
		w.want(got, to.status, "")
		if to.status == 204 {
			w.want(got, 204, "")
			continue
		}
		var want, have any
		if err := errors.Join(json.Unmarshal([]byte(examples()[to.id].answer), &want), json.Unmarshal([]byte(got.body), &have)); err != nil {
			t.Fatalf("%s: %v", to.id, err)
		}
		if !alike(want, have) {
			t.Errorf("%s: got %s\nlike %s", to.id, got.body, examples()[to.id].answer)
		}
	}
}

// TestSurfaceFailures makes every route of the surfaces fail in each way that is ours.
func TestSurfaceFailures(t *testing.T) {
	w, f := newSurfaces(t)
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
		f.err, f.explode = c.err, c.explode
		for _, to := range w.api.surfaceRoutes() {
			want := c.contacts
			if to.tag == tagUsers {
				want = c.user
			}
			if got := w.askSurface(to); got.status != c.status || got.body != want || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %s %v", name, to.id, got.status, got.body, got.header)
			}
		}
	}
	if log := w.log.String(); !strings.Contains(log, "panic in a handler") || strings.Contains(log, "hg_live_canary") {
		t.Errorf("log: %s", log)
	}
}

func TestSurfaceLimits(t *testing.T) {
	w, _ := newSurfaces(t, func(a *API) { a.Rate, a.Burst = 1, 1 })
	w.want(w.ask("GET", "/external/users/"+nobody, "", "Agent-Secret-Key: ask_1"), 200, "")
	got := w.ask("GET", "/external/users/"+nobody, "", "Agent-Secret-Key: ask_1")
	w.want(got, 429, `{"status":429,"name":"TOO_MANY_REQUESTS_ERROR","message":"Too Many Requests","details":{"code":"RATE_LIMIT_EXCEEDED"}}`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", got.header)
	}
	w.want(w.ask("GET", "/v4/global/contactIdentities", ""), 200, "")
	w.want(w.ask("GET", "/v4/global/contactIdentities", ""), 429, `{"errorCode":"TooManyRequests","message":"Too Many Requests"}`)
}

// TestSurfacesAreNotThere: without a store for them nothing of them is.
func TestSurfacesAreNotThere(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("GET", "/external/users/"+nobody, "", "Agent-Secret-Key: ask_1"), 404, `{"detail":"Not Found"}`)
	w.want(w.ask("GET", "/global/contactIdentities", ""), 404, `{"detail":"Not Found"}`)
	if strings.Contains(w.ask("GET", "/openapi.json", "").body, "contactIdentities") {
		t.Error("in the document all the same")
	}
}

func TestSurfacesInTheDocument(t *testing.T) {
	w, _ := newSurfaces(t)
	var doc struct {
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Tags       []struct{ Name string }              `json:"tags"`
		Components struct {
			Schemas         map[string]any `json:"schemas"`
			SecuritySchemes map[string]any `json:"securitySchemes"`
		} `json:"components"`
	}
	text := w.ask("GET", "/openapi.json", "").body
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{tagUsers, tagContacts} {
		if !slices.ContainsFunc(doc.Tags, func(d struct{ Name string }) bool { return d.Name == tag }) {
			t.Errorf("no tag %s", tag)
		}
	}
	for _, to := range w.api.surfaceRoutes() {
		op := doc.Paths[to.path][strings.ToLower(to.method)]
		if op == nil || op["operationId"] != to.id || op["security"] == nil || strings.Contains(op["description"].(string), "``") {
			t.Errorf("%s: %v", to.id, op)
			continue
		}
		responses := op["responses"].(map[string]any)
		for _, status := range append(to.surface.errors(to), to.status) {
			media := mediaOf(responses[strconv.Itoa(status)])
			if status != 204 && (media["schema"] == nil || media["example"] == nil) {
				t.Errorf("%s %d: no schema or no example", to.id, status)
			}
			if schema, _ := media["schema"].(map[string]any); status >= 400 && schema["$ref"] != schemas+to.surface.schema {
				t.Errorf("%s %d: %v", to.id, status, schema)
			}
		}
		if responses["422"] != nil || strings.Contains(text, "ErrorModel") {
			t.Errorf("%s: an error of another surface", to.id)
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

// TestUserShowsNoForeignMetadata: what a customer's metadata holds under the name of
// custom data may be anything.
func TestUserShowsNoForeignMetadata(t *testing.T) {
	for in, want := range map[string]string{
		``: `{}`, `{}`: `{}`, `{"customData":null}`: `{}`, `{"customData":[1]}`: `{}`, `{"customData":"x"}`: `{}`, `{"tier":"gold"}`: `{}`,
		`{"customData":{"a":1},"b":2}`: `{"a":1}`,
	} {
		got, err := encode(toUser(User{Customer: identity.Customer{Metadata: []byte(in)}}).Metadata)
		if err != nil || string(got) != `{"customData":`+want+`}` {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}
