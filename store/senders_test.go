package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// markSender adds everything that is stored about an unknown sender to an instance: an identity, a
// direct conversation with a reply, a message in a group and a failed attempt.
func (f *fixture) markSender(instance, sender string) (id string, direct gateway.IncomingMessage) {
	f.t.Helper()
	u := newUnknown(f.t, f.Store, identity.Identity{
		TenantID: f.tenant, InstanceID: instance, Channel: "telegram", ExternalID: sender,
		DisplayName: "Canaryname", Username: "canaryuser",
	})
	direct = f.markedArrival(instance, adapters.Telegram, sender, sender, false, "canarytext")
	group := f.markedArrival(instance, adapters.Telegram, sender, "-100", true, "canarytext in a group")
	other := f.markedArrival(instance, adapters.Telegram, "31337", "-100", true, "another member")
	other.Message.Sender.Name, other.Message.Sender.Username, other.Message.Media = "Matt", "matt", nil
	other.Message.Action, other.Message.Content, other.Message.StartPayload = "", nil, ""
	f.insertMessages(direct, group, other)
	f.insertReply(direct, direct.ID)
	mustExec(f.t, f.Store, `update conversations set identity_id = $2 where id = $1`, direct.ConversationID, u.ID)
	mustExec(f.t, f.Store, `update identities set last_heard_at = created_at where id = $1`, u.ID)
	mustExec(f.t, f.Store, `insert into claim_failures (tenant_id, instance_id, channel, sender_id, message_id)
		values ($1, $2, 'telegram', $3, $4)`, f.tenant, instance, sender, newID())
	must(f.t, f.Audit(f.t.Context(), identity.Event{
		TenantID: f.tenant, Kind: "identity.blocked", Actor: "key:1", IdentityID: u.ID,
		Detail: map[string]string{"channel": "telegram", "external_id": sender, "name": "Canaryname"},
	}))
	return u.ID, direct
}

func (f *fixture) eraseAddress(external string) error {
	_, err := f.EraseAddress(f.t.Context(),
		identity.Address{TenantID: f.tenant, Channel: "telegram", ExternalID: external}, "key:1")
	return err
}

// TestEraseSender_LeavesNoTrace tests that an unknown sender is erased in all instances, by identity
// and by address, and that other senders and the same account of another tenant are kept.
func TestEraseSender_LeavesNoTrace(t *testing.T) {
	markers := []string{markedTelegram, "canary"}
	for name, erase := range map[string]func(f *fixture, id string) error{
		"by identity": func(f *fixture, id string) error {
			_, err := f.EraseSender(f.t.Context(), f.tenant, id, "key:1")
			return err
		},
		"by address": func(f *fixture, _ string) error { return f.eraseAddress(markedTelegram) },
		"by address, without the identity": func(f *fixture, id string) error {
			mustExec(f.t, f.Store, `update conversations set identity_id = null where tenant_id = $1`, f.tenant)
			mustExec(f.t, f.Store, `delete from identities where tenant_id = $1 and external_id = $2`, f.tenant,
				markedTelegram)
			return f.eraseAddress(markedTelegram)
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				id, _ := f.markSender(f.instance, markedTelegram)
				f.markSender(newInstance(t, f.Store, f.tenant).ID, markedTelegram)
				before := findTraces(t, f.Store, markers...)
				for _, want := range []string{
					"identities.external_id", "identities.display_name", "conversations.place_id", "messages.sender_id",
					"messages.text", "outbox.recipient", "claim_failures.sender_id", "audit_events.detail",
				} {
					if !slices.Contains(before, want) {
						t.Errorf("no marked data in %s before the erasure", want)
					}
				}
				sent := time.Now().Add(-time.Second)
				must(t, erase(f, id))
				left := findTraces(t, f.Store, markers...)
				if name == "by address, without the identity" {
					// Nothing says whose the event of a deleted identity was.
					left = slices.DeleteFunc(left, func(c string) bool { return c == "audit_events.detail" })
				}
				if len(left) > 0 {
					t.Errorf("marked data left in %v", left)
				}
				if n := queryText(t, f.Store, `select cast(count(*) as text) from messages where tenant_id = $1`,
					f.tenant); n != "2" {
					t.Errorf("%s messages left, want those of the other group members", n)
				}
				erased, err := f.ErasedSince(t.Context(), f.tenant, sent.Add(-time.Hour))
				must(t, err)
				if !erased(adapters.Telegram, markedTelegram, sent) || erased(adapters.Telegram, "31337", sent) ||
					erased(adapters.Telegram, markedTelegram, time.Now().Add(time.Hour)) {
					t.Error("ErasedSince() does not report exactly the messages from before the erasure")
				}
				if err := f.eraseAddress(markedTelegram); !errors.Is(err, identity.ErrNotFound) {
					t.Errorf("second EraseAddress() = %v, want ErrNotFound", err)
				}
				if n := f.insertMessages(f.arrival(markedTelegram, "again", "hello again")); n != 1 {
					t.Errorf("InsertMessages() after the erasure = %d, want 1", n)
				}
			})
		})
	}
}

// TestEraseSender_KeepsOthers tests what is not erased: senders who belong to a customer, another
// sender, and the same account of another tenant.
func TestEraseSender_KeepsOthers(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		foreign := newFixture(t, f.Store)
		foreign.insertMessages(foreign.markedArrival(foreign.instance, adapters.Telegram, markedTelegram, markedTelegram,
			false, "theirs"))
		linked := newInstance(t, f.Store, f.tenant).ID
		id := f.link(f.createCustomer(), linked, "telegram", markedTelegram).ID
		f.insertMessages(
			f.markedArrival(linked, adapters.Telegram, markedTelegram, markedTelegram, false, "of the customer"),
			f.markedArrival(f.instance, adapters.Telegram, "4712", "4712", false, "of another sender"))
		if _, err := f.EraseSender(t.Context(), f.tenant, id, "key:1"); !errors.Is(err, identity.ErrAlreadyLinked) {
			t.Errorf("EraseSender(identity of a customer) = %v, want ErrAlreadyLinked", err)
		}
		if err := f.eraseAddress(markedTelegram); !errors.Is(err, identity.ErrAlreadyLinked) {
			t.Errorf("EraseAddress(address of a customer) = %v, want ErrAlreadyLinked", err)
		}
		f.insertMessages(f.markedArrival(f.instance, adapters.Telegram, markedTelegram, markedTelegram, false,
			"of the unknown sender"))
		must(t, f.eraseAddress(markedTelegram))
		for text, want := range map[string]bool{
			"of the customer": true, "of another sender": true, "theirs": true, "of the unknown sender": false,
		} {
			if found := len(findTraces(t, f.Store, text)) > 0; found != want {
				t.Errorf("%q found = %v, want %v", text, found, want)
			}
		}
		if _, err := f.EraseSender(t.Context(), foreign.tenant, id, "key:1"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("EraseSender() in another tenant = %v, want ErrNotFound", err)
		}
		// An address that a customer has in all instances is the customer's also where it was unknown.
		mustExec(t, f.Store, `update identities set instance_id = null where id = $1`, id)
		unknown := newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", ExternalID: markedTelegram,
		})
		if _, err := f.EraseSender(t.Context(), f.tenant, unknown.ID, "key:1"); !errors.Is(err, identity.ErrAlreadyLinked) {
			t.Errorf("EraseSender(address of a customer in all instances) = %v, want ErrAlreadyLinked", err)
		}
	})
}

// TestPurge_UnknownSenders tests which unknown senders expire, and that nothing about them is left.
func TestPurge_UnknownSenders(t *testing.T) {
	for name, c := range map[string]struct {
		period, days int // of the tenant; since the last message
		prepare      string
		want         bool // whether the sender expires
	}{
		"after 91 days":   {90, 91, ``, true},
		"after 89 days":   {90, 89, ``, false},
		"shorter period":  {7, 8, ``, true},
		"longer period":   {365, 364, ``, false},
		"blocked":         {90, 91, `update identities set refused_at = created_at where id = $1`, true},
		"opted out":       {90, 91, `update identities set opted_out_at = created_at where id = $1`, false},
		"has not written": {90, 91, `update identities set last_heard_at = null where id = $1`, false},
		"has a newer message": {90, 91, `update messages set received_at = (
			select created_at from tenants where id = messages.tenant_id) where conversation_id in (
			select id from conversations where identity_id = $1)`, false},
		"message not handled": {90, 91, `update messages set state = 'new' where conversation_id in (
			select id from conversations where identity_id = $1)`, false},
		"linked to a customer": {90, 91, `update identities set customer_id = (
			select c.id from customers c where c.tenant_id = identities.tenant_id limit 1) where id = $1`, false},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				f.createCustomer()
				mustExec(t, f.Store, `update tenants set unknown_sender_days = $2 where id = $1`, f.tenant, c.period)
				id, direct := f.markSender(f.instance, markedTelegram)
				f.backdate(c.days, direct)
				mustExec(t, f.Store, `update identities set created_at = `+f.dialect.NowPlus(-c.days*daySeconds)+`,
					last_heard_at = `+f.dialect.NowPlus(-c.days*daySeconds)+` where id = $1`, id)
				if c.prepare != "" {
					mustExec(t, f.Store, c.prepare, id)
				}
				f.purge()
				n := queryText(t, f.Store, `select cast(count(*) as text) from identities where id = $1`, id)
				if expired := n == "0"; expired != c.want {
					t.Errorf("expired = %v, want %v", expired, c.want)
				}
				if !c.want {
					return
				}
				if left := findTraces(t, f.Store, markedTelegram, "canary"); len(left) > 0 {
					t.Errorf("marked data left in %v", left)
				}
				events, err := f.AuditEvents(t.Context(), f.tenant, identity.EventQuery{Kind: "identity.expired"}, "", 10)
				if err != nil || len(events) != 1 || events[0].IdentityID != id || events[0].InstanceID != f.instance {
					t.Errorf("identity.expired events = %+v, %v, want one", events, err)
				}
			})
		})
	}
}
