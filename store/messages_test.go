package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

func TestInbound_ResolvesSender(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		customer, id := f.createCustomerIdentity("1")
		secret := f.arrival("1", "k1", "/claim ******")
		secret.Secret = &gateway.Secret{Text: "/claim WDJBMJ", ReplyToken: "https://hooks.example.com/x"}
		f.insertMessages(secret, f.arrival("9", "k2", "who am I"))
		for _, l := range f.lease(gateway.InboxQueue, "one") {
			in := f.pending(l)[0]
			if in.Message.Sender.ID == "9" {
				if in.Sender.ID != "" || in.Sender.Role() != identity.Unknown {
					t.Errorf("unknown sender = %+v", in.Sender)
				}
				continue
			}
			if in.Sender.ID != id || in.Sender.CustomerID != customer || in.Sender.Role() != identity.Unverified {
				t.Errorf("sender = %+v, want the unverified identity", in.Sender)
			}
			if in.Message.Text != "/claim WDJBMJ" || !in.Encrypted || in.Message.Chat.ReplyToken == "" {
				t.Errorf("decrypted message = %+v", in.Message)
			}
			if in.ReceivedAt.IsZero() || time.Since(in.ReceivedAt) > time.Minute {
				t.Errorf("ReceivedAt = %v, want now", in.ReceivedAt)
			}
		}
		var stored string
		rs, err := f.db.Query(t.Context(), `select body || text || coalesce(sealed, '') from messages where key = $1`, "k1")
		stored, err = sqldb.ScanOne(rs, err, sqldb.ScanString)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"WDJBMJ", "hooks.example.com"} {
			if strings.Contains(stored, s) {
				t.Errorf("the table contains %s in plain text", s)
			}
		}
	})
}

func TestApply_ErasedSenderNotRecreated(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"))
		l := f.lease(gateway.InboxQueue, "one")[0]
		if _, err := f.db.Exec(t.Context(), `delete from conversations where tenant_id = $1`, f.tenant); err != nil {
			t.Fatal(err)
		}
		sender := identity.Identity{
			ID: newID(), TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
			ExternalID: "1",
		}
		if err := f.Apply(t.Context(), gateway.Commit{
			Lease: l, Release: true,
			CreatedIdentities: []identity.Identity{sender},
		}); !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("Apply() = %v, want ErrLeaseLost", err)
		}
	})
}

// TestApply_KeepSecret checks that only messages that were not decoded completely keep their encrypted part.
func TestApply_KeepSecret(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for key, keep := range map[string]bool{"k1": true, "k2": false} {
			a := f.arrival(key, key, "")
			a.Secret = &gateway.Secret{Raw: []byte(`{"hologram":1}`)}
			f.insertMessages(a)
			l := f.lease(gateway.InboxQueue, "one")[0]
			in := f.pending(l)[0]
			if string(in.Message.Raw) != `{"hologram":1}` {
				t.Errorf("Raw = %q, want the bytes", in.Message.Raw)
			}
			if err := f.Apply(t.Context(), gateway.Commit{
				Lease: l, Release: true, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded", KeepSecret: keep}},
			}); err != nil {
				t.Fatal(err)
			}
			rs, err := f.db.Query(t.Context(), `select case when sealed is null then '' else 'kept' end from messages where key = $1`, key)
			kept, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
			if err != nil || (kept == "kept") != keep {
				t.Errorf("encrypted part with KeepSecret %v = %q, %v", keep, kept, err)
			}
		}
	})
}

func TestPreviousVersion(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for _, v := range []struct{ key, providerID, version string }{
			{"k1", "11", "a"}, {"k2", "111", "x"}, {"k3", "11", "b"}, {"k4", "11", "a"}, {"k5", "12", "a"},
		} {
			a := f.arrival("1", v.key, "hi")
			a.Message.ProviderID, a.Message.Version = v.providerID, v.version
			f.insertMessages(a)
		}
		var got []string
		for _, in := range f.pending(f.lease(gateway.InboxQueue, "one")[0]) {
			version, err := f.PreviousVersion(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, version)
		}
		if want := []string{"", "", "a", "b", ""}; !slices.Equal(got, want) {
			t.Errorf("previous versions = %q, want %q", got, want)
		}
	})
}
