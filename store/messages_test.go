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

// TestApply_Erased checks that nothing is stored of a message that was erased while it was processed, or
// while the application answered it, and that the queue is still usable.
func TestApply_Erased(t *testing.T) {
	for _, tt := range []struct {
		name  string
		erase string // a statement; empty: nothing was erased
		want  error
	}{
		{"nothing", ``, nil},
		{"direct chat", `delete from conversations where tenant_id = $1`, gateway.ErrLeaseLost},
		{"message in a group", `delete from messages where tenant_id = $1`, gateway.ErrLeaseLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				apply := func(step string, c gateway.Commit) {
					t.Helper()
					if tt.erase != "" {
						mustExec(t, f.Store, `delete from deliveries where tenant_id = $1`, f.tenant)
						mustExec(t, f.Store, tt.erase, f.tenant)
					}
					if err := f.Apply(t.Context(), c); !errors.Is(err, tt.want) {
						t.Errorf("Apply() of the %s queue = %v, want %v", step, err, tt.want)
					}
					if err := f.Apply(t.Context(), gateway.Commit{Lease: c.Lease, Release: true}); err != nil {
						t.Errorf("Apply() that releases the lease = %v", err)
					}
				}
				reply := f.reply("hello")
				accept := func(key string) (l gateway.Lease, c gateway.Commit) {
					f.insertMessages(f.arrival("1", key, "a"))
					l = f.lease(gateway.InboxQueue, "one")[0]
					in := f.pending(l)[0]
					reply.ConversationID, reply.MessageID = in.ConversationID, in.ID
					return l, gateway.Commit{
						Lease: l, Messages: []gateway.MessageResult{{ID: in.ID, Outcome: "forwarded"}},
						Deliveries: []gateway.Delivery{{
							ID: newID(), TenantID: f.tenant, ConversationID: in.ConversationID, InstanceID: f.instance,
							MessageID: in.ID, Type: "message.received",
						}},
					}
				}
				_, inbox := accept("k1")
				inbox.CreatedIdentities = []identity.Identity{{
					ID: newID(), TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: "1",
				}}
				inbox.Replies = []gateway.OutboxRow{reply}
				apply("inbox", inbox)
				_, next := accept("k2")
				next.Release = true
				f.apply(next)
				delivery := f.lease(gateway.DeliveryQueue, "one")[0]
				answer := f.reply("answer")
				answer.ConversationID, answer.MessageID = reply.ConversationID, reply.MessageID
				apply("delivery", gateway.Commit{
					Lease:           delivery,
					DeliveryResults: []gateway.DeliveryResult{{ID: next.Deliveries[0].ID, Status: gateway.Delivered}},
					Replies:         []gateway.OutboxRow{answer},
				})
				stored := queryText(t, f.Store, `select (select count(*) from identities where external_id = '1') || ' ' ||
					(select count(*) from outbox where tenant_id = $1)`, f.tenant)
				want := "1 2"
				if tt.want != nil {
					want = "0 0"
				}
				if stored != want {
					t.Errorf("identities and replies = %s, want %s", stored, want)
				}
			})
		})
	}
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
