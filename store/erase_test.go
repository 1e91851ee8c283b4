package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
	"hydragate/store/storetest"
)

// A tracedCustomer is a customer with marked data in every table.
type tracedCustomer struct {
	*fixture
	customer, former string // former was merged into customer
	sms, telegram    string
	unlinkedIdentity string // was unlinked
	group, direct    string // conversations
	markers          []string
}

const (
	markedNumber   = "+61400999888"
	markedTelegram = "4711000815"
	markedSlack    = "T0CANARY1:U0CANARY1"
)

// newTracedCustomer creates a customer and adds marked data to every table with personal data.
func newTracedCustomer(f *fixture) *tracedCustomer {
	t, ctx := f.t, f.t.Context()
	t.Helper()
	p := &tracedCustomer{fixture: f, markers: []string{
		"canary", markedNumber, markedTelegram,
		strings.ToLower(markedSlack),
	}}
	create := func(email, phone string) string {
		c, err := f.CreateCustomer(ctx, identity.Customer{
			TenantID: f.tenant, Email: email, PhoneNumber: phone, FirstName: "Canarysteve", LastName: "Canarylast",
			CompanyName: "Canaryworks", Metadata: []byte(`{"note":"canarymeta"}`),
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		return c.ID
	}
	link := func(customer, instance, channel, id string) string {
		i, err := f.Link(ctx, identity.Identity{
			TenantID: f.tenant, CustomerID: customer, InstanceID: instance, Channel: channel, ExternalID: id,
			DisplayName: "Canaryname", Username: "canaryuser", Metadata: []byte(`{"x":"canarymeta"}`),
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		return i.ID
	}
	p.customer, p.former = create("canary@example.com", markedNumber), create("canary2@example.com", "")
	p.telegram = link(p.former, "", "telegram", markedTelegram)
	f.mergeCustomer(p.former, p.customer)
	p.sms = link(p.customer, f.instance, "sms", markedNumber)
	p.unlinkedIdentity = link(p.customer, "", "slack", markedSlack)
	if err := f.Unlink(ctx, identity.Key{TenantID: f.tenant, CustomerID: p.customer, IdentityID: p.unlinkedIdentity},
		identity.System); err != nil {
		t.Fatal(err)
	}
	mustExec(t, f.Store,
		`update customers set fk_id = $2, source = 'canarysource', context = 'canarycontext' where id = $1`, p.customer,
		"canaryfk"+f.tenant)
	mustExec(t, f.Store, `update identities set avatar_url = 'https://canary.example.com' where id = $1`, p.sms)
	p.addMessages(t)
	p.addReplies(t)
	return p
}

// addMessages adds messages, events and replies to direct conversations and to a group.
func (p *tracedCustomer) addMessages(t *testing.T) {
	second := newInstance(t, p.Store, p.tenant).ID
	newUnknown(t, p.Store, identity.Identity{
		TenantID: p.tenant, InstanceID: second, Channel: "sms",
		ExternalID: markedNumber, DisplayName: "Canaryname",
	})
	newUnknown(t, p.Store, identity.Identity{
		TenantID: p.tenant, InstanceID: second, Channel: "slack",
		ExternalID: markedSlack, Username: "canaryuser",
	})
	direct := p.markedArrival(p.instance, "telegram", markedTelegram, markedTelegram, false, "canarytext")
	sealed := p.markedArrival(p.instance, "telegram", markedTelegram, markedTelegram, false, "/claim ******")
	sealed.Secret = &gateway.Secret{Text: "/claim canarycode", Raw: []byte("canary")}
	group := p.markedArrival(p.instance, "telegram", markedTelegram, "-100", true, "canarytext in a group")
	other := p.markedArrival(p.instance, "telegram", "31337", "-100", true, "another member of the group")
	other.Message.Sender.Name, other.Message.Sender.Username, other.Message.Media = "Matt", "matt", nil
	p.insertMessages(direct, sealed, group, other,
		p.markedArrival(p.instance, "sms", markedNumber, markedNumber, false, "canarytext"),
		p.markedArrival(second, "sms", markedNumber, markedNumber, false, "canarytext elsewhere"),
		p.markedArrival(second, "slack", markedSlack, "D0PLACE", false, "canarytext after the unlinking"))
	p.direct, p.group = direct.ConversationID, group.ConversationID
	mustExec(t, p.Store, `update conversations set identity_id = $2 where id = $1`, p.direct, p.telegram)
	mustExec(t, p.Store, `update messages set state = 'dead', outcome = 'dead' where id = $1`, direct.ID)
	for n, m := range []gateway.IncomingMessage{direct, group} {
		mustExec(t, p.Store, `
			insert into deliveries (id, tenant_id, conversation_id, instance_id, message_id, event_type, status, due_at,
				created_at, error)
			values ($1, $2, $3, $4, $5, 'message.received', 'dead', $6, $6, 'canaryerror')`, newID(), p.tenant,
			m.ConversationID, p.instance, m.ID, p.now())
		mustExec(t, p.Store, `
			insert into outbox (id, tenant_id, conversation_id, instance_id, channel, recipient, place, text, cause, message_id,
				status, due_at, provider_id, created_at, updated_at)
			values ($1, $2, $3, $4, 'telegram', $5, 'canaryplace', 'canaryreply', 'agent', $6, 'sent', $7, $8, $7, $7)`,
			newID(), p.tenant, m.ConversationID, p.instance, markedTelegram, m.ID, p.now(), fmt.Sprintf("canaryprovider%d", n))
		mustExec(t, p.Store, `
			insert into receipts (tenant_id, instance_id, channel, provider_id, status, rank, at)
				values ($1, $2, 'telegram', $3, 'delivered', 3, $4)`,
			p.tenant, p.instance, fmt.Sprintf("canaryprovider%d", n), p.now())
	}
	for _, instance := range []string{p.instance, second} {
		mustExec(t, p.Store,
			`insert into claim_failures (tenant_id, instance_id, channel, sender_id, message_id)
				values ($1, $2, 'sms', $3, $4)`, p.tenant, instance, markedNumber, newID())
	}
}

// addReplies adds stored responses of the API and an audit event.
func (p *tracedCustomer) addReplies(t *testing.T) {
	for key, body := range map[string]string{
		"k1": `{"id":"` + p.customer + `","email":"canary@example.com"}`, "k2": `{"external_id":"` + markedTelegram + `"}`,
		"k3": `{"id":"another customer"}`,
	} {
		p.addStoredResponse(t, key, body)
	}
	err := p.Audit(t.Context(), identity.Event{
		TenantID: p.tenant, Kind: "b", Actor: "sender:x",
		IdentityID: p.unlinkedIdentity, Detail: map[string]string{"channel": "slack", "external_id": markedSlack},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// markedArrival returns a message with marked data; see tracedCustomer.
func (f *fixture) markedArrival(
	instance string, channel adapters.Channel, sender, place string, group bool, text string,
) gateway.IncomingMessage {
	return gateway.IncomingMessage{
		ID: newID(), TenantID: f.tenant, InstanceID: instance, Channel: channel,
		ConversationID: gateway.ConversationID(instance, channel, place),
		Message: adapters.Message{
			Key: newID(), Kind: adapters.Text, Text: text,
			Sender: adapters.Sender{ID: sender, Name: "Canaryname", Username: "canaryuser"},
			Chat:   adapters.Chat{ID: place, Group: group},
			Media:  []adapters.Attachment{{Kind: "image", Ref: "canaryref", Name: "canary.jpg"}},
		},
	}
}

func (p *tracedCustomer) addStoredResponse(t *testing.T, key, body string) {
	t.Helper()
	k := gateway.IdempotencyKey{TenantID: p.tenant, Principal: "key", Key: key, Fingerprint: "f"}
	reserveKey(t, p.Store, k, false)
	saveResponse(t, p.Store, k, body)
}

// addStoredNames adds data that only the fields of the customer identify.
func (p *tracedCustomer) addStoredNames(t *testing.T) {
	t.Helper()
	p.addStoredResponse(t, "canary@example.com", `{}`)
	err := p.Audit(t.Context(), identity.Event{
		TenantID: p.tenant, Kind: "a", Actor: "key:1", CustomerID: p.customer,
		Detail: map[string]string{"note": "sent to Canary@Example.com by hand", "fields": "email"},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (p *tracedCustomer) eraseCustomer() {
	p.t.Helper()
	if _, err := p.EraseCustomer(p.t.Context(), p.tenant, p.customer, "key:1"); err != nil {
		p.t.Fatal(err)
	}
}

// findTraces returns the columns that contain one of words, ignoring case.
func findTraces(t *testing.T, s *Store, words ...string) []string {
	t.Helper()
	tables := `select name from sqlite_master where type = 'table' and name not like 'sqlite_%'`
	if s.Engine() == "postgres" {
		tables = `select table_name from information_schema.tables where table_schema = 'public'`
	}
	rs, err := s.db.Query(t.Context(), tables)
	names, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil || len(names) < 15 {
		t.Fatalf("tables %v, %v", names, err)
	}
	found := map[string]bool{}
	for _, table := range names {
		for _, column := range tableColumns(t, s, table) {
			rs, err := s.db.Query(t.Context(), `select cast(`+column+` as text) from `+table)
			values, err := sqldb.ScanAll(rs, err, sqldb.ScanText)
			if err != nil {
				t.Fatalf("%s.%s: %v", table, column, err)
			}
			for _, v := range values {
				if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(v), w) }) {
					found[table+"."+column] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestEraseCustomer_LeavesNoTrace tests that after an erasure no column contains marked data. As a
// control, it checks that the columns contained it before.
func TestEraseCustomer_LeavesNoTrace(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		p := newTracedCustomer(f)
		p.addStoredNames(t)
		before := findTraces(t, f.Store, p.markers...)
		for _, want := range []string{
			"customers.email", "customers.metadata", "customers.fk_id", "customers.context", "merged_customers.email",
			"identities.external_id", "identities.display_name", "identities.avatar_url",
			"identity_owners.external_id", "conversations.place_id", "messages.sender_id", "messages.text", "messages.body",
			"deliveries.error", "outbox.text", "outbox.recipient",
			"receipts.provider_id", "claim_failures.sender_id", "audit_events.detail", "idempotency_keys.key",
		} {
			if !slices.Contains(before, want) {
				t.Errorf("no marked data in %s before the erasure", want)
			}
		}
		start := time.Now()
		p.eraseCustomer()
		took, left := time.Since(start), findTraces(t, f.Store, p.markers...)
		t.Logf("%d columns with marked data before the erasure, %d after; took_ms=%d",
			len(before), len(left), took.Milliseconds())
		if len(left) > 0 {
			t.Errorf("marked data left in %v", left)
		}
		if n := queryText(t, f.Store, `select cast(count(*) as text) from messages where tenant_id = $1`,
			f.tenant); n != "1" {
			t.Errorf("%s messages left, want only the one of the other group member", n)
		}
		p.checkStoredResponses(t)
		p.checkErasureEvent(t)
		if _, err := f.EraseCustomer(t.Context(), f.tenant, p.customer, "key:1"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("second EraseCustomer() = %v, want ErrNotFound", err)
		}
		if _, err := f.EraseCustomer(t.Context(), f.tenant, p.former, "key:1"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("EraseCustomer(merged customer) = %v, want ErrNotFound", err)
		}
	})
}

func (p *tracedCustomer) checkStoredResponses(t *testing.T) {
	t.Helper()
	left := queryText(t, p.Store,
		`select cast(count(*) as text) from idempotency_keys where tenant_id = $1 and answer is not null`, p.tenant)
	if left != "1" {
		t.Errorf("%s responses left, want only that about another customer", left)
	}
	// The same request is not executed again.
	a, found, err := p.ReserveIdempotencyKey(t.Context(),
		gateway.IdempotencyKey{TenantID: p.tenant, Principal: "key", Key: "k1", Fingerprint: "f"})
	if err != nil || !found || a.Fingerprint == "f" || len(a.Body) != 0 {
		t.Errorf("ReserveIdempotencyKey() = %+v, %v, %v, want a different request without a body", a, found, err)
	}
}

func (p *tracedCustomer) checkErasureEvent(t *testing.T) {
	t.Helper()
	es, err := p.AuditEvents(t.Context(), p.tenant, identity.EventQuery{Kind: "customer.erased"}, "", 10)
	if err != nil || len(es) != 1 || es[0].CustomerID != p.customer || es[0].Actor != "key:1" {
		t.Fatalf("customer.erased events = %+v, %v", es, err)
	}
	for name, n := range es[0].Detail {
		if strings.Trim(n, "0123456789") != "" {
			t.Errorf("detail %s = %q, want a number", name, n)
		}
	}
	if d := es[0].Detail; d["messages"] != "6" || d["identities"] != "4" || d["replies"] != "2" ||
		d["receipts"] != "2" || d["failures"] != "2" || d["merged"] != "1" {
		t.Errorf("counts = %v", d)
	}
}

// TestEraseCustomer_AfterDelete tests that a deleted customer can be erased.
func TestEraseCustomer_AfterDelete(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		p := newTracedCustomer(f)
		if _, err := f.DeleteCustomer(t.Context(), f.tenant, p.customer, "key:1"); err != nil {
			t.Fatal(err)
		}
		if len(findTraces(t, f.Store, p.markers...)) == 0 {
			t.Error("no marked data left after the deletion, want some")
		}
		p.eraseCustomer()
		if left := findTraces(t, f.Store, p.markers...); len(left) > 0 {
			t.Errorf("marked data left in %v", left)
		}
	})
}

// TestEraseCustomer_DisplayedNumber tests that a conversation is found by the provider's form of the
// phone number, even if it has no messages left.
func TestEraseCustomer_DisplayedNumber(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		const normalized, displayed = "+525512345678", "+5215512345678"
		customer, _ := f.createCustomerWith("steve@example.com", 0)
		i, err := f.Link(t.Context(), identity.Identity{
			TenantID: f.tenant, CustomerID: customer, Channel: "whatsapp",
			ExternalID: normalized,
		}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		here, there := newInstance(t, f.Store, f.tenant).ID, newInstance(t, f.Store, f.tenant).ID
		written := f.markedArrival(here, adapters.WhatsApp, normalized, displayed, false, "hello")
		bare := f.markedArrival(there, adapters.WhatsApp, normalized, displayed, false, "forgotten since")
		f.insertMessages(written, bare)
		mustExec(t, f.Store, `update conversations set identity_id = $2 where id = $1`, written.ConversationID, i.ID)
		mustExec(t, f.Store, `delete from messages where id = $1`, bare.ID)
		if _, err := f.EraseCustomer(t.Context(), f.tenant, customer, "key:1"); err != nil {
			t.Fatal(err)
		}
		if left := findTraces(t, f.Store, normalized, displayed); len(left) > 0 {
			t.Errorf("marked data left in %v", left)
		}
	})
}

// TestEraseCustomer_KeepsOtherCustomers tests that the data of another customer with the same address
// in another instance, and of other tenants, is kept.
func TestEraseCustomer_KeepsOtherCustomers(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		foreign := newFixture(t, f.Store)
		theirs := foreign.markedArrival(foreign.instance, "sms", markedNumber, markedNumber, false, "theirs")
		foreign.insertMessages(theirs)
		steve, _ := f.createCustomerWith("steve@example.com", 0)
		matt, _ := f.createCustomerWith("matt@example.com", 0)
		shared := newInstance(t, f.Store, f.tenant).ID
		for customer, instance := range map[string]string{steve: "", matt: shared} {
			_, err := f.Link(t.Context(), identity.Identity{
				TenantID: f.tenant, CustomerID: customer, InstanceID: instance,
				Channel: "sms", ExternalID: markedNumber,
			}, identity.System)
			if err != nil {
				t.Fatal(err)
			}
		}
		f.insertMessages(f.markedArrival(f.instance, "sms", markedNumber, markedNumber, false, "of Steve"),
			f.markedArrival(shared, "sms", markedNumber, markedNumber, false, "of Matt"))
		if _, err := f.EraseCustomer(t.Context(), f.tenant, steve, identity.System); err != nil {
			t.Fatal(err)
		}
		if left := findTraces(t, f.Store, "of steve"); len(left) > 0 {
			t.Errorf("marked data left in %v", left)
		}
		for _, text := range []string{"of matt", "theirs"} {
			if len(findTraces(t, f.Store, text)) == 0 {
				t.Errorf("no trace of %q, want it kept", text)
			}
		}
		if is, err := f.CustomerIdentities(t.Context(),
			identity.Query{TenantID: f.tenant, CustomerID: matt}); err != nil || len(is) != 1 ||
			is[0].ExternalID != markedNumber {
			t.Errorf("identities of Matt = %+v, %v, want one", is, err)
		}
	})
}

func TestEraseCustomer_NotFound(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve, ids := f.createCustomerWith("steve@example.com", 1)
		foreign := newFixture(t, f.Store)
		for _, c := range [][2]string{{foreign.tenant, steve}, {f.tenant, newID()}, {f.tenant, "x"}} {
			if _, err := f.EraseCustomer(t.Context(), c[0], c[1], identity.System); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("EraseCustomer(%v) = %v, want ErrNotFound", c, err)
			}
			if _, err := f.DeleteCustomer(t.Context(), c[0], c[1], identity.System); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("DeleteCustomer(%v) = %v, want ErrNotFound", c, err)
			}
		}
		f.wantIdentities(steve, ids...)
	})
}

func TestDeleteCustomer(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		steve, ids := f.createCustomerWith("steve@example.com", 2)
		conversation := newConversation(t, f.Store, f.tenant, f.instance, ids[0])
		if _, _, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: steve, IdentityID: ids[0]},
			"key:1"); err != nil {
			t.Fatal(err)
		}
		targets, err := f.DeleteCustomer(t.Context(), f.tenant, steve, "key:1")
		if err != nil || len(targets) != 1 || targets[0].IdentityID != ids[0] || targets[0].Gen != 1 ||
			targets[0].TenantID != f.tenant {
			t.Errorf("DeleteCustomer() = %+v, %v, want the identity with a code", targets, err)
		}
		if _, err := f.Customer(t.Context(), f.tenant, steve); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("Customer() = %v, want ErrNotFound", err)
		}
		if n := queryText(t, f.Store,
			`select cast(count(*) as text) from conversations where id = $1 and identity_id is null`, conversation); n != "1" {
			t.Error("the conversation was deleted or still has an identity")
		}
		kinds := map[string]int{}
		for _, e := range auditLog(t, f.Store, f.tenant) {
			kinds[e.Kind]++
			if e.Kind == "customer.deleted" && (e.CustomerID != steve || e.Actor != "key:1" || e.Detail["identities"] != "2") {
				t.Errorf("event = %+v", e)
			}
		}
		if kinds["customer.deleted"] != 1 || kinds["identity.unlinked"] != 2 {
			t.Errorf("events = %v", kinds)
		}
	})
}

// TestEraseCustomer_DuringProcessing erases a customer while its messages are received and processed.
// Neither must deadlock.
func TestEraseCustomer_DuringProcessing(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		p := newTracedCustomer(f)
		done := make(chan error, 1)
		started := make(chan struct{})
		go func() {
			var err error
			for n := range 30 {
				if n == 3 {
					close(started)
				}
				_, err = f.InsertMessages(t.Context(),
					[]gateway.IncomingMessage{f.markedArrival(f.instance, "telegram", markedTelegram, markedTelegram, false, "more")}, nil)
				if err != nil {
					break
				}
				ls, lerr := f.Lease(t.Context(), gateway.InboxQueue, "w", 10)
				if lerr != nil {
					err = lerr
					break
				}
				for _, l := range ls {
					pending, _ := f.PendingMessages(t.Context(), l)
					st := gateway.Commit{Lease: l, Release: true}
					for _, in := range pending {
						st.Messages = append(st.Messages, gateway.MessageResult{ID: in.ID, Outcome: "forwarded"})
						st.Participant = &gateway.ConversationParticipant{
							ConversationID: in.ConversationID, TenantID: f.tenant,
							Address: identity.Address{
								TenantID: f.tenant, InstanceID: in.InstanceID, Channel: string(in.Channel),
								ExternalID: in.Message.Sender.ID,
							},
						}
					}
					_ = f.Apply(t.Context(), st) // may fail because the conversation was erased
				}
			}
			done <- err
		}()
		<-started
		p.eraseCustomer()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("worker: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the worker did not end within 20s")
		}
	})
}

// TestEraseCustomer_DuringAdopt adopts an unknown sender with the same address for another customer
// after the erasure has read the owners of the address and before it deletes identities. The adopted
// identity must be kept.
func TestEraseCustomer_DuringAdopt(t *testing.T) {
	f := newFixture(t, mustOpen(t, storetest.NewPostgres(t))) // SQLite has one writer
	ctx, second := t.Context(), newInstance(t, f.Store, f.tenant).ID
	steve, _ := f.createCustomerWith("steve@example.com", 0)
	matt, _ := f.createCustomerWith("matt@example.com", 0)
	if _, err := f.Link(ctx, identity.Identity{
		TenantID: f.tenant, CustomerID: steve, InstanceID: f.instance,
		Channel: "telegram", ExternalID: "7",
	}, identity.System); err != nil {
		t.Fatal(err)
	}
	unknown := newID()
	mustExec(t, f.Store,
		`insert into identities (id, tenant_id, instance_id, channel, external_id, created_at, updated_at)
			values ($1, $2, $3, 'telegram', '7', $4, $4)`,
		unknown, f.tenant, second, f.now())
	message := f.markedArrival(f.instance, "telegram", "7", "7", false, "hello")
	f.insertMessages(message)

	erased := make(chan error, 1)
	err := f.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `select kind from lanes where conversation_id = $1`+f.dialect.ForUpdate(),
			message.ConversationID)
		if _, err := sqldb.ScanAll(rs, err, sqldb.ScanString); err != nil {
			return err
		}
		go func() {
			_, err := f.EraseCustomer(ctx, f.tenant, steve, "key:1")
			erased <- err
		}()
		for queryText(t, f.Store,
			`select cast(count(*) as text) from pg_stat_activity where datname = current_database()
				and wait_event_type = 'Lock'`) == "0" {
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		_, err = f.Adopt(ctx, identity.Key{TenantID: f.tenant, CustomerID: matt, IdentityID: unknown}, "key:2")
		return err
	})
	if err == nil {
		err = <-erased
	}
	if err != nil {
		t.Fatal(err)
	}
	if i, err := f.Identity(ctx, identity.Key{TenantID: f.tenant, CustomerID: matt, IdentityID: unknown}); err != nil {
		t.Errorf("Identity(adopted) = %+v, %v, want it kept", i, err)
	}
}
