package store

import (
	"errors"
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
				_, err = f.InsertMessages(
					t.Context(),
					[]gateway.IncomingMessage{
						f.markedArrival(f.instance, "telegram", markedTelegram, markedTelegram, false, "more"),
					},
					nil,
				)
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
		case <-time.After(2 * time.Minute):
			t.Fatal("the worker did not end within two minutes")
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
