package store

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
)

func TestCreateInstance(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		secrets := gateway.InstanceSecrets{
			AgentSecretKey: identity.NewToken("hg_agent_"),
			WebhookSecret:  identity.NewToken("whsec_"),
		}
		in := gateway.Instance{
			TenantID: tenant, Name: "bot", AgentURL: "https://agent.example.com/",
			UnknownSenders: gateway.ReplyToUnknown, WelcomeText: "Hello",
		}
		got, err := s.CreateInstance(t.Context(), in, secrets, "key:k")
		if err != nil || got.ID == "" || got.CreatedAt.IsZero() || !got.CreatedAt.Equal(got.UpdatedAt) {
			t.Fatalf("CreateInstance() = %+v, %v", got, err)
		}
		in.ID, in.CreatedAt, in.UpdatedAt = got.ID, got.CreatedAt, got.UpdatedAt
		if back, err := s.Instance(t.Context(), tenant, got.ID); err != nil || back != in {
			t.Errorf("Instance() = %+v, %v, want %+v", back, err, in)
		}
		sealed := queryText(t, s, `select webhook_secret from instances where tenant_id = $1 and id = $2`, tenant, got.ID)
		if strings.Contains(sealed, secrets.WebhookSecret) {
			t.Error("the signing secret is not encrypted")
		}
		plain, stale, err := s.keys.Open(sealed, keyring.AssociatedData(tenant, "instances.webhook_secret", got.ID))
		if err != nil || stale || string(plain) != secrets.WebhookSecret {
			t.Errorf("decrypt signing secret: %v", err)
		}
		if h := queryText(t, s, `select agent_secret_hash from instances where tenant_id = $1 and id = $2`, tenant,
			got.ID); h != identity.HashToken(secrets.AgentSecretKey) {
			t.Error("the agent's key is not stored as its hash")
		}
		if bare := newInstance(t, s, tenant); bare.UnknownSenders != gateway.ForwardUnknown || bare.AgentURL != "" {
			t.Errorf("CreateInstance() with defaults = %+v", bare)
		}
		if es := auditLog(t, s, tenant); len(es) != 2 || es[0].Kind != "instance.created" || es[0].Actor != "key:k" ||
			es[0].InstanceID != got.ID {
			t.Errorf("events = %+v", es)
		}
	})
}

func TestEditInstance(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		i := newInstance(t, s, tenant)
		mustExec(t, s, `update instances set agent_disabled_at = $2 where id = $1`, i.ID, s.now())
		drop, empty := gateway.DropUnknown, ""
		name, url := "other", "https://agent.example.com/"
		got, err := s.EditInstance(t.Context(), tenant, i.ID, gateway.InstanceEdit{Name: &name, UnknownSenders: &drop},
			"key:k")
		if err != nil || got.Name != name || got.UnknownSenders != drop || got.AgentDisabledAt.IsZero() ||
			got.UpdatedAt.Before(i.UpdatedAt) {
			t.Errorf("EditInstance(name) = %+v, %v, want the application still disabled", got, err)
		}
		if got, err = s.EditInstance(t.Context(), tenant, i.ID, gateway.InstanceEdit{AgentURL: &url}, "key:k"); err != nil ||
			got.AgentURL != url || !got.AgentDisabledAt.IsZero() {
			t.Errorf("EditInstance(URL) = %+v, %v, want the application enabled", got, err)
		}
		if got, err = s.EditInstance(t.Context(), tenant, i.ID, gateway.InstanceEdit{AgentURL: &empty},
			"key:k"); err != nil || got.AgentURL != "" || got.Name != name {
			t.Errorf("EditInstance(empty URL) = %+v, %v", got, err)
		}
		if _, err := s.EditInstance(t.Context(), tenant, unknownID, gateway.InstanceEdit{}, "key:k"); !errors.Is(err,
			gateway.ErrNoInstance) {
			t.Errorf("EditInstance(unknown ID) = %v, want ErrNoInstance", err)
		}
		if es := auditLog(t, s, tenant); es[1].Kind != "instance.updated" ||
			es[1].Detail["fields"] != "name unknown_senders" {
			t.Errorf("events = %+v", es)
		}
	})
}

func TestListInstances(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		var want, got []string
		for range 5 {
			want = append(want, newInstance(t, s, tenant).ID)
		}
		for after := ""; len(got) < len(want); after = got[len(got)-1] {
			is, err := s.ListInstances(t.Context(), tenant, after, 2)
			if err != nil || len(is) == 0 {
				t.Fatalf("page after %q: %v", after, err)
			}
			for _, i := range is {
				got = append(got, i.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("ListInstances() = %v, want %v", got, want)
		}
	})
}

func TestDeleteInstance(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		i, other := newInstance(t, s, tenant), newInstance(t, s, tenant)
		customer, err := s.CreateCustomer(t.Context(), identity.Customer{TenantID: tenant}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		link := func(instance, id string) identity.Identity {
			l, err := s.Link(t.Context(), identity.Identity{
				TenantID: tenant, CustomerID: customer.ID, InstanceID: instance,
				Channel: "telegram", ExternalID: id,
			}, identity.System)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		scoped, all := link(i.ID, "1"), link("", "2")
		unknown := newUnknown(t, s, identity.Identity{
			TenantID: tenant, InstanceID: i.ID, Channel: "telegram",
			ExternalID: "3",
		})
		for _, with := range []string{scoped.ID, all.ID, unknown.ID} {
			newConversation(t, s, tenant, i.ID, with)
		}
		otherConversation := newConversation(t, s, tenant, other.ID, all.ID)
		if _, err := s.SaveEndpoint(t.Context(), gateway.EndpointState{
			Endpoint: endpoint(tenant, i.ID),
			Status:   gateway.EndpointActive,
		}, timeZero, identity.System); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateAPIKey(t.Context(), identity.APIKey{TenantID: tenant, InstanceID: i.ID}, newID(),
			identity.System); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteInstance(t.Context(), tenant, i.ID, "key:k"); err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]string{
			"instances": "1", "endpoints": "0", "identities": "1",
			"conversations": "1", "api_keys": "0",
		} {
			if n := queryText(t, s, `select cast(count(*) as text) from `+table+` where tenant_id = $1`, tenant); n != want {
				t.Errorf("%s rows left in %s, want %s", n, table, want)
			}
		}
		if p := queryText(t, s, `select identity_id from conversations where id = $1`, otherConversation); p != all.ID {
			t.Errorf("identity of another instance's conversation = %q, want %q", p, all.ID)
		}
		if err := s.DeleteInstance(t.Context(), tenant, i.ID, "key:k"); !errors.Is(err, gateway.ErrNoInstance) {
			t.Errorf("second DeleteInstance() = %v, want ErrNoInstance", err)
		}
		es := auditLog(t, s, tenant)
		last := es[len(es)-1]
		if es[len(es)-2].Kind != "instance.deleted" || last.Kind != "identity.unlinked" || last.IdentityID != scoped.ID ||
			last.CustomerID != customer.ID || last.Detail["external_id"] != "1" {
			t.Errorf("last events = %+v, want the owner of the deleted identity", es[len(es)-2:])
		}
	})
}

func TestInstance_OtherTenant(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		i, other := newInstance(t, s, tenant), newTenant(t, s)
		name := "x"
		errs := map[string]error{}
		_, errs["read"] = s.Instance(t.Context(), other, i.ID)
		_, errs["edit"] = s.EditInstance(t.Context(), other, i.ID, gateway.InstanceEdit{Name: &name}, "key:k")
		errs["delete"] = s.DeleteInstance(t.Context(), other, i.ID, "key:k")
		_, errs["endpoints"] = s.EndpointStates(t.Context(), other, i.ID)
		_, errs["endpoint"] = s.EndpointState(t.Context(), other, i.ID, adapters.Telegram)
		_, errs["save endpoint"] = s.SaveEndpoint(t.Context(),
			gateway.EndpointState{Endpoint: endpoint(other, i.ID), Status: gateway.EndpointActive}, timeZero, "key:k")
		_, errs["invalid ID"] = s.Instance(t.Context(), tenant, "no id at all")
		for what, err := range errs {
			if !errors.Is(err, gateway.ErrNoInstance) {
				t.Errorf("%s: %v, want ErrNoInstance", what, err)
			}
		}
		if is, err := s.ListInstances(t.Context(), other, "", 10); err != nil || len(is) != 0 {
			t.Errorf("ListInstances(other tenant) = %+v, %v, want none", is, err)
		}
	})
}
