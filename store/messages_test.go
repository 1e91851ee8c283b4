package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

func TestInbound_ResolvesSender(t *testing.T) {
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		customer, id := h.createCustomerIdentity("1")
		secret := h.arrival("1", "k1", "/claim ******")
		secret.Secret = &gateway.Secret{Text: "/claim WDJBMJ", ReplyToken: "https://hooks.example.com/x"}
		h.insertMessages(secret, h.arrival("9", "k2", "who am I"))
		for _, l := range h.lease(gateway.InboxQueue, "one") {
			in := h.inbound(l)[0]
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
		rs, err := h.db.Query(t.Context(), `select body || text || coalesce(sealed, '') from messages where key = $1`, "k1")
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
	forEachEngineFixture(t, func(t *testing.T, h fixture) {
		h.insertMessages(h.arrival("1", "k1", "a"))
		l := h.lease(gateway.InboxQueue, "one")[0]
		if _, err := h.db.Exec(t.Context(), `delete from conversations where tenant_id = $1`, tenant); err != nil {
			t.Fatal(err)
		}
		sender := identity.Identity{
			ID: newID(), TenantID: tenant, InstanceID: h.instance, Channel: "telegram",
			ExternalID: "1",
		}
		if err := h.Apply(t.Context(), gateway.Commit{
			Lease: l, Release: true,
			CreatedIdentities: []identity.Identity{sender},
		}); !errors.Is(err, gateway.ErrLeaseLost) {
			t.Fatalf("Apply() = %v, want ErrLeaseLost", err)
		}
	})
}
