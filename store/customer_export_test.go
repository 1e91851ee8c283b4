package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// TestCustomerConversations tests that an export has neither the messages of others in a group, nor
// messages from an address while it belonged to someone else.
func TestCustomerConversations(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		p := newTracedCustomer(f)
		conversations, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: f.tenant, CustomerID: p.customer})
		if err != nil {
			t.Fatal(err)
		}
		var received, sent []string
		for _, c := range conversations {
			for after := int64(0); ; {
				ms, err := f.ReceivedMessages(t.Context(), c, after, 1)
				if err != nil {
					t.Fatal(err)
				}
				if len(ms) == 0 {
					break
				}
				after = ms[0].Seq
				received = append(received, ms[0].Text)
				if len(ms[0].Attachments) != 1 ||
					ms[0].Attachments[0] != (gateway.ReceivedFile{Kind: "image", Name: "canary.jpg"}) {
					t.Errorf("attachments = %+v", ms[0].Attachments)
				}
				if ms[0].Action != "canaryaction" || ms[0].StartPayload != "canarylink" || len(ms[0].Content) != 1 ||
					ms[0].Content[0].Title != "canaryplace" {
					t.Errorf("message = %+v, want its action, content and start payload", ms[0])
				}
			}
			replies, err := f.SentMessages(t.Context(), c, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range replies {
				sent = append(sent, m.Text)
			}
		}
		// The SMS address belongs to the customer in one instance only, the Slack address no longer.
		if len(conversations) != 3 || len(received) != 4 || len(sent) != 2 {
			t.Errorf("%d conversations, received %q, sent %q", len(conversations), received, sent)
		}
		if all := fmt.Sprint(received); strings.Contains(all, "someone else") || strings.Contains(all, "canarycode") ||
			strings.Contains(all, "elsewhere") || strings.Contains(all, "unlinking") {
			t.Errorf("received messages = %q", received)
		}
		if elsewhere, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: f.tenant, CustomerID: p.customer, InstanceID: newID()}); err != nil ||
			len(elsewhere) != 0 {
			t.Errorf("CustomerConversations(other instance) = %v, %v, want none", elsewhere, err)
		}
		if _, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: newTenant(t, f.Store), CustomerID: p.customer}); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("CustomerConversations(other tenant) = %v, want ErrNotFound", err)
		}
	})
}

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
	other.Message.Action, other.Message.Content, other.Message.StartPayload = "", nil, ""
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
			Action: "canaryaction", StartPayload: "canarylink",
			Content: []adapters.Content{{Kind: adapters.Location, Title: "canaryplace", Latitude: 1, Longitude: 2}},
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
