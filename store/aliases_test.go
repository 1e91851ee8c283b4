package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

const (
	userNumber, otherNumber = "+525512345678", "+14155550123"
	userChat                = "+5215512345678" // how WhatsApp writes userNumber
	userID, parentID        = "MX.13491208655302741918", "MX.ENT.11815799212886844830"
)

// whatsApp returns a message of WhatsApp from the first of ids, which was sent with the others.
func (f *fixture) whatsApp(ids ...string) gateway.IncomingMessage {
	chat := ids[0]
	if chat == userNumber {
		chat = userChat
	}
	m := f.markedArrival(f.instance, adapters.WhatsApp, ids[0], chat, false, "hello")
	m.Message.Sender.Aliases = ids[1:]
	return m
}

// stored returns the sender of a stored message, its chat, and the address of replies.
func (f *fixture) stored(m gateway.IncomingMessage) string {
	f.t.Helper()
	place := queryText(f.t, f.Store, `select c.place_id from messages m join conversations c on c.id = m.conversation_id
		where m.id = $1`, m.ID)
	l := gateway.Lease{
		TenantID:       f.tenant,
		ConversationID: gateway.ConversationID(f.instance, adapters.WhatsApp, place),
	}
	for _, in := range f.pending(l) {
		if in.ID == m.ID {
			return strings.TrimSpace(in.Message.Sender.ID + " in " + in.Message.Chat.ID + " " + in.Message.Chat.Address)
		}
	}
	f.t.Fatalf("message in %s not found", place)
	return ""
}

// TestInsertMessages_Aliases tests which account messages belong to whose senders have several IDs. Each
// message is given by its IDs, and followed by what is stored.
func TestInsertMessages_Aliases(t *testing.T) {
	type step struct{ from, want string }
	byNumber := userNumber + " in " + userChat
	for name, steps := range map[string][]step{
		"number first": {
			{userNumber + " " + userID + " " + parentID, byNumber},
			{userID, byNumber + " " + userID},
			{parentID, byNumber + " " + parentID},
			{userID + " " + parentID, byNumber + " " + userID},
			{userNumber, byNumber},
		},
		"ID first": {
			{userID + " " + parentID, userID + " in " + userID},
			{parentID, userID + " in " + userID + " " + parentID},
			{userNumber + " " + userID, userID + " in " + userID + " " + userChat},
			{userNumber, userID + " in " + userID + " " + userChat},
		},
		"another ID of the same number": {
			{userNumber + " " + userID, byNumber},
			{userNumber + " US.2", byNumber},
			{"US.2", byNumber + " US.2"},
			{userID, byNumber + " " + userID},
		},
		"connected by the parent": {
			{userNumber + " " + parentID, byNumber},
			{"US.2 " + parentID, byNumber + " US.2"},
			{"US.2", byNumber + " US.2"},
		},
		"ID of another number": {
			{userNumber + " " + userID, byNumber},
			{otherNumber + " " + userID, otherNumber + " in " + otherNumber},
			{userID, userID + " in " + userID},
			{userNumber + " " + userID, byNumber},
			{userID, userID + " in " + userID},
		},
		"number of an ID with another number": {
			{userID, userID + " in " + userID},
			{userNumber + " " + userID, userID + " in " + userID + " " + userChat},
			{otherNumber + " " + userID, otherNumber + " in " + otherNumber},
			{userNumber, userID + " in " + userID + " " + userChat},
		},
		"IDs of two accounts": {
			{userNumber + " " + userID, byNumber},
			{otherNumber + " " + parentID, otherNumber + " in " + otherNumber},
			{"US.2 " + userID + " " + parentID, "US.2 in US.2"},
			{userID, userID + " in " + userID},
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				for n, s := range steps {
					m := f.whatsApp(strings.Fields(s.from)...)
					f.insertMessages(m)
					if got := f.stored(m); got != s.want {
						t.Fatalf("step %d: message from %s is stored as one of %s, want %s", n, s.from, got, s.want)
					}
					account, _, _ := strings.Cut(s.want, " ")
					if n := queryText(t, f.Store, `select cast(count(*) as text) from identities where tenant_id = $1
						and external_id = $2`, f.tenant, account); n == "0" { // as the worker does
						newUnknown(t, f.Store, identity.Identity{
							TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: account,
						})
					}
				}
			})
		})
	}
}

// TestInsertMessages_AliasesOfTenants tests that aliases of another tenant, and of a channel without
// aliases, mean nothing.
func TestInsertMessages_AliasesOfTenants(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		other := newFixture(t, f.Store)
		other.insertMessages(other.whatsApp(otherNumber, userID))
		sms := f.markedArrival(f.instance, adapters.SMS, userNumber, userNumber, false, "hello")
		sms.Message.Sender.Aliases = []string{userID}
		m := f.whatsApp(userID)
		f.insertMessages(sms, m)
		if got, want := f.stored(m), userID+" in "+userID; got != want {
			t.Errorf("message stored as one of %s, want %s", got, want)
		}
		m, theirs := f.whatsApp(userNumber, parentID), other.whatsApp(userID)
		if n := f.insertMessages(m, theirs, f.whatsApp(parentID)); n != 3 {
			t.Errorf("InsertMessages(of two tenants) = %d, want 3", n)
		}
		if got, want := other.stored(theirs), otherNumber+" in "+otherNumber+" "+userID; got != want {
			t.Errorf("message of the other tenant stored as one of %s, want %s", got, want)
		}
	})
}

// TestInsertMessages_MergesAccounts tests that two identities become one when their IDs are sent together,
// with the rights of the verified one, unless they are of different customers.
func TestInsertMessages_MergesAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		number, user string // "", "unknown", or a customer, with "!" if verified
		conflict     bool
		verified     bool
	}{
		"unknown ID":             {number: "steve!", user: "unknown", verified: true},
		"unknown number":         {number: "unknown", user: "steve!", verified: true},
		"verified ID":            {number: "steve", user: "steve!", verified: true},
		"verified number":        {number: "steve!", user: "steve", verified: true},
		"both unknown":           {number: "unknown", user: "unknown"},
		"different customers":    {number: "steve", user: "matt!", conflict: true},
		"both of one, no claims": {number: "steve", user: "steve"},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				customers := map[string]string{"steve": f.createCustomer(), "matt": f.createCustomer()}
				create := func(owner, external string) (i identity.Identity) {
					owner, verified := strings.CutSuffix(owner, "!")
					if owner == "unknown" {
						return newUnknown(t, f.Store, identity.Identity{
							TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: external,
						})
					}
					i = f.link(customers[owner], "", "whatsapp", external)
					if verified {
						role := identity.RoleOwner
						_, err := f.EditIdentity(t.Context(), identity.Key{
							TenantID: f.tenant, CustomerID: i.CustomerID, IdentityID: i.ID,
						}, identity.Edit{Verified: &verified, RoleOverride: &role}, identity.System)
						must(t, err)
					}
					return i
				}
				before := f.whatsApp(userID)
				f.insertMessages(before)
				create(c.number, userNumber)
				user := create(c.user, userID)
				mustExec(t, f.Store, `update conversations set identity_id = $2 where id = $1`, before.ConversationID, user.ID)
				f.insertMessages(f.whatsApp(userNumber, userID))
				f.insertMessages(f.whatsApp(userNumber, userID))
				after := f.whatsApp(userID)
				f.insertMessages(after)
				events := 0
				for _, e := range auditLog(t, f.Store, f.tenant) {
					if e.Kind == "identity.alias_disputed" {
						events++
					}
				}
				want := userNumber + " in " + userChat + " " + userID
				if c.conflict {
					want = userID + " in " + userID
				}
				if got := f.stored(after); got != want || (events > 0) != c.conflict || events > 2 {
					t.Errorf("message stored as one of %s with %d events, want %s", got, events, want)
				}
				number, _, err := f.Lookup(t.Context(), identity.Address{
					TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: userNumber,
				})
				byID, _, _ := f.Lookup(t.Context(), identity.Address{
					TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: userID,
				})
				if number.IsVerified() != c.verified || (number.RoleOverride != "") != c.verified ||
					(number.ID == byID.ID) == c.conflict {
					t.Errorf("Lookup(number) = %+v, %v; Lookup(ID) = %+v", number, err, byID)
				}
				in := f.pending(gateway.Lease{TenantID: f.tenant, ConversationID: before.ConversationID})
				if !c.conflict && (len(in) != 1 || in[0].Sender.ID == "" || in[0].Sender.CustomerID != number.CustomerID) {
					t.Errorf("earlier message = %+v, want one of the same person", in)
				}
			})
		})
	}
}

// TestAliases_Management tests that staff find, link, import and see an account under each of its IDs.
func TestAliases_Management(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.whatsApp(userNumber, userID, parentID))
		u := newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: userNumber,
		})
		aliases := []string{userID, parentID}
		senders, err := f.UnknownSenders(t.Context(), identity.SenderQuery{TenantID: f.tenant, Limit: 10})
		if err != nil || len(senders) != 1 || !slices.Equal(senders[0].Aliases, aliases) {
			t.Fatalf("UnknownSenders() = %+v, %v", senders, err)
		}
		customer := f.createCustomer()
		linked := f.link(customer, "", "whatsapp", parentID)
		if linked.ID != u.ID || linked.ExternalID != userNumber || !slices.Equal(linked.Aliases, aliases) {
			t.Errorf("Link(alias) = %+v, want the identity of the number", linked)
		}
		for _, q := range []identity.CustomerQuery{{ExternalID: userID}, {ExternalPrefix: "mx.ent."}} {
			found, err := f.ListCustomers(t.Context(), f.tenant, q, "", 10)
			if err != nil || len(found) != 1 {
				t.Errorf("ListCustomers(%+v) = %v, %v, want one", q, found, err)
			}
		}
	})
}

// TestUnlink_DisputedAlias tests that a disputed alias belongs to the other account once the wrong one is
// unlinked.
func TestUnlink_DisputedAlias(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		i := f.link(f.createCustomer(), "", "whatsapp", otherNumber)
		f.insertMessages(f.whatsApp(otherNumber, userID), f.whatsApp(userNumber, userID))
		must(t, f.Unlink(t.Context(),
			identity.Key{TenantID: f.tenant, CustomerID: i.CustomerID, IdentityID: i.ID}, identity.System))
		after := f.whatsApp(userID)
		f.insertMessages(f.whatsApp(userNumber, userID), after)
		if got, want := f.stored(after), userNumber+" in "+userChat+" "+userID; got != want {
			t.Errorf("message stored as one of %s, want %s", got, want)
		}
	})
}

// TestErase_Aliases tests that no alias is left after an erasure, and that earlier messages from an alias
// are dropped then.
func TestErase_Aliases(t *testing.T) {
	for name, erase := range map[string]func(f *fixture, customer string) error{
		"customer": func(f *fixture, customer string) error {
			f.link(customer, "", "whatsapp", userID)
			_, err := f.EraseCustomer(f.t.Context(), f.tenant, customer, "key:1")
			return err
		},
		"address": func(f *fixture, _ string) error {
			_, err := f.EraseAddress(f.t.Context(),
				identity.Address{TenantID: f.tenant, Channel: "whatsapp", ExternalID: parentID}, "key:1")
			return err
		},
		"expired": func(f *fixture, _ string) error {
			mustExec(f.t, f.Store, `update identities set last_heard_at = $2 where tenant_id = $1`, f.tenant,
				time.Now().UTC().AddDate(-3, 0, 0))
			mustExec(f.t, f.Store, `update messages set state = 'done', received_at = $2 where tenant_id = $1`, f.tenant,
				time.Now().UTC().AddDate(-3, 0, 0))
			_, err := f.expireUnknownSenders(f.t.Context())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEachFixture(t, func(t *testing.T, f *fixture) {
				before := f.whatsApp(parentID)
				f.insertMessages(before) // an account of its own, until the number is known
				f.insertMessages(f.whatsApp(userNumber, userID, parentID), f.whatsApp(userID))
				newUnknown(t, f.Store, identity.Identity{
					TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: userNumber,
				})
				other := f.whatsApp(otherNumber, "US.2")
				f.insertMessages(other)
				newUnknown(t, f.Store, identity.Identity{
					TenantID: f.tenant, InstanceID: newInstance(t, f.Store, f.tenant).ID, Channel: "whatsapp",
					ExternalID: otherNumber,
				})
				sent := time.Now().Add(-time.Second)
				must(t, erase(f, f.createCustomer()))
				left := findTraces(t, f.Store, userNumber, userChat, strings.ToLower(userID), strings.ToLower(parentID))
				if len(left) > 0 {
					t.Errorf("marked data left in %v", left)
				}
				if name == "expired" {
					return
				}
				if len(findTraces(t, f.Store, "us.2")) == 0 {
					t.Error("the alias of another account was erased")
				}
				erased, err := f.ErasedSince(t.Context(), f.tenant, sent)
				must(t, err)
				for _, id := range []string{userNumber, userID, parentID} {
					if !erased(adapters.WhatsApp, id, sent) || erased(adapters.WhatsApp, "US.2", sent) {
						t.Errorf("erased(%s) = false", id)
					}
				}
			})
		})
	}
}

// TestPurge_Aliases tests that aliases of accounts without an identity are deleted after a day.
func TestPurge_Aliases(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.whatsApp(userNumber, userID), f.whatsApp(otherNumber, "US.2"))
		newUnknown(t, f.Store, identity.Identity{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "whatsapp", ExternalID: otherNumber,
		})
		_, err := f.Purge(t.Context())
		must(t, err)
		count := `select cast(count(*) as text) from aliases where tenant_id = $1`
		if n := queryText(t, f.Store, count, f.tenant); n != "2" {
			t.Errorf("%s aliases left before a day has passed, want 2", n)
		}
		mustExec(t, f.Store, `update aliases set created_at = $2 where tenant_id = $1`, f.tenant,
			time.Now().UTC().AddDate(0, 0, -2))
		_, err = f.Purge(t.Context())
		must(t, err)
		if n := queryText(t, f.Store, count, f.tenant); n != "1" {
			t.Errorf("%s aliases left, want that of the identity", n)
		}
	})
}
