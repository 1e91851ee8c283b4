package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"hydragate/identity"
)

// An importPlan decides about records. It knows what the database holds of whatever
// they name, and what it decided before.
type importPlan struct {
	store *Store
	how   identity.Importing

	customers map[string]*identity.Record // by id
	byEmail   map[string]string           // ids, by address in lower case
	byFK      map[string]string
	merged    map[string]bool      // ids of customers that are somebody else now
	owners    map[addressed]string // ids of customers
	unknown   map[addressed]bool   // somebody wrote from there; of any instance
	instances instanceChoices
	changes   []importChange
}

// addressed is an address within its scope.
type addressed struct{ channel, externalID, instance string }

// A importChange is what is to be done about one record.
type importChange struct {
	record identity.Record // the customer as it is to be
	create bool
	fields []string // that change
	link   []identity.RecordIdentity
}

func newImportPlan(s *Store, how identity.Importing) *importPlan {
	return &importPlan{
		store: s, how: how, customers: map[string]*identity.Record{}, byEmail: map[string]string{}, byFK: map[string]string{}, merged: map[string]bool{},
		owners: map[addressed]string{}, unknown: map[addressed]bool{},
	}
}

// read looks up everything that records name.
func (p *importPlan) read(ctx context.Context, d db, records []identity.Record) error {
	var ids, emails, fks []string
	external := map[string][]string{} // by channel
	for _, r := range records {
		ids, emails, fks = addNew(ids, r.ID), addNew(emails, r.Email), addNew(fks, r.FKID)
		for _, i := range r.Identities {
			external[i.Channel] = append(external[i.Channel], i.ExternalID)
		}
	}
	if p.instances == nil {
		var err error
		if p.instances, err = instanceNames(ctx, d, p.how.TenantID); err != nil {
			return err
		}
	}
	for channel, all := range external {
		if err := p.readOwners(ctx, d, channel, all); err != nil {
			return err
		}
	}
	for _, r := range records {
		for _, i := range r.Identities {
			instance, _ := p.instances.choose(i.Instance)
			ids = addNew(ids, p.owners[addressed{i.Channel, i.ExternalID, instance}])
		}
	}
	for _, q := range []struct {
		values    []string
		condition string
		sign      string
	}{{ids, `id in (%s)`, "$%d"}, {emails, `lower(email) in (%s)`, "lower($%d)"}, {fks, `fk_id in (%s)`, "$%d"}} {
		if err := p.readCustomers(ctx, d, q.values, q.condition, q.sign); err != nil {
			return err
		}
	}
	return p.readMerged(ctx, d, ids)
}

func addNew(values []string, v string) []string {
	if v == "" {
		return values
	}
	return append(values, v)
}

func (p *importPlan) readOwners(ctx context.Context, d db, channel string, external []string) error {
	type owned struct {
		at       addressed
		customer string
	}
	for some := range slices.Chunk(external, inTurn) {
		list, args := listed([]any{p.how.TenantID, channel}, some, "$%d")
		rs, err := d.Query(ctx, `
			select channel, external_id, instance_id, customer_id from identities
			where tenant_id = $1 and channel = $2 and external_id in (`+list+`)`, args...)
		found, err := all(rs, err, func(sc scan) (o owned, err error) {
			return o, sc(&o.at.channel, &o.at.externalID, text(&o.at.instance), text(&o.customer))
		})
		if err != nil {
			return fmt.Errorf("look up identities: %w", err)
		}
		for _, o := range found {
			if o.customer != "" {
				p.owners[o.at] = o.customer
				continue
			}
			p.unknown[o.at] = true
			p.unknown[addressed{o.at.channel, o.at.externalID, ""}] = true
		}
	}
	return nil
}

// inTurn is how many values a statement lists at most.
const inTurn = 512

func (p *importPlan) readCustomers(ctx context.Context, d db, values []string, condition, sign string) error {
	for some := range slices.Chunk(values, inTurn) {
		list, args := listed([]any{p.how.TenantID}, some, sign)
		rs, err := d.Query(ctx, `
			select `+recordColumns+` from customers
			where tenant_id = $1 and `+fmt.Sprintf(condition, list), args...)
		found, err := all(rs, err, scanRecord)
		if err != nil {
			return fmt.Errorf("look up customers: %w", err)
		}
		for _, r := range found {
			if p.customers[r.ID] == nil { // what was decided holds
				p.know(&r)
			}
		}
	}
	return nil
}

func (p *importPlan) readMerged(ctx context.Context, d db, ids []string) error {
	for some := range slices.Chunk(ids, inTurn) {
		list, args := listed([]any{p.how.TenantID}, some, "$%d")
		rs, err := d.Query(ctx, `select customer_id from customer_merges where tenant_id = $1 and customer_id in (`+list+`)`, args...)
		found, err := all(rs, err, func(sc scan) (id string, err error) { return id, sc(text(&id)) })
		if err != nil {
			return fmt.Errorf("look up merged customers: %w", err)
		}
		for _, id := range found {
			p.merged[id] = true
		}
	}
	return nil
}

func (p *importPlan) know(r *identity.Record) {
	p.customers[r.ID] = r
	if r.Email != "" {
		p.byEmail[strings.ToLower(r.Email)] = r.ID
	}
	if r.FKID != "" {
		p.byFK[r.FKID] = r.ID
	}
}

// decide says what becomes of records, one after another: each sees what the ones
// before it do.
func (p *importPlan) decide(records []identity.Record) []identity.Imported {
	p.changes = p.changes[:0]
	done := make([]identity.Imported, len(records))
	for n, r := range records {
		c, err := p.one(r)
		if err != nil {
			done[n].Err = err
			continue
		}
		done[n] = identity.Imported{Created: c.create, Updated: !c.create && len(c.fields) > 0, Linked: len(c.link)}
		p.accept(c)
	}
	return done
}

func (p *importPlan) accept(c importChange) {
	if was := p.customers[c.record.ID]; was != nil {
		delete(p.byEmail, strings.ToLower(was.Email))
		delete(p.byFK, was.FKID)
	}
	p.know(&c.record)
	for _, i := range c.link {
		p.owners[addressed{i.Channel, i.ExternalID, i.InstanceID}] = c.record.ID
	}
	if c.create || len(c.fields) > 0 || len(c.link) > 0 {
		p.changes = append(p.changes, c)
	}
}

func (p *importPlan) one(r identity.Record) (c importChange, err error) {
	r.TenantID = p.how.TenantID
	r.Identities = slices.Clone(r.Identities)
	for n := range r.Identities {
		if r.Identities[n].InstanceID, err = p.instances.choose(r.Identities[n].Instance); err != nil {
			return c, err
		}
	}
	id, err := p.whose(r)
	if err != nil {
		return c, err
	}
	c.record = r
	if was := p.customers[id]; was != nil {
		c.record, c.fields = together(*was, r)
	} else {
		c.create = true
		c.record.ID = id
	}
	if c.record.Identities = nil; id == "" {
		c.record.ID = newID()
	}
	if owner, taken := p.byEmail[strings.ToLower(c.record.Email)]; taken && c.record.Email != "" && owner != c.record.ID {
		return c, errors.New("email: another customer has it")
	}
	if owner, taken := p.byFK[c.record.FKID]; taken && c.record.FKID != "" && owner != c.record.ID {
		return c, errors.New("fk_id: another customer has it")
	}
	c.link, err = p.links(r.Identities, c.record.ID)
	return c, err
}

// whose gives the id of the customer that a record is about; "" is a new one.
func (p *importPlan) whose(r identity.Record) (string, error) {
	if r.ID != "" {
		if p.merged[r.ID] && p.customers[r.ID] == nil {
			return "", errors.New("id: this customer was merged into another")
		}
		return r.ID, nil
	}
	if id, ok := p.byEmail[strings.ToLower(r.Email)]; ok && r.Email != "" {
		return id, nil
	}
	if id, ok := p.byFK[r.FKID]; ok && r.FKID != "" {
		return id, nil
	}
	for _, i := range r.Identities {
		if id, ok := p.owners[addressed{i.Channel, i.ExternalID, i.InstanceID}]; ok && p.mayBe(id, r) {
			return id, nil
		}
	}
	if r.Email == "" && r.FKID == "" && len(r.Identities) == 0 {
		return "", errors.New("email, fk_id, an identity or an id is needed, to know the customer again")
	}
	return "", nil
}

// mayBe reports whether a customer is not known by something else than a record says.
func (p *importPlan) mayBe(id string, r identity.Record) bool {
	c := p.customers[id]
	return c != nil && (r.Email == "" || c.Email == "") && (r.FKID == "" || c.FKID == "")
}

// links gives the identities that are new. A record that names somebody else's is
// refused as a whole.
func (p *importPlan) links(is []identity.RecordIdentity, customer string) ([]identity.RecordIdentity, error) {
	var fresh []identity.RecordIdentity
	given := map[addressed]bool{}
	for _, i := range is {
		at := addressed{i.Channel, i.ExternalID, i.InstanceID}
		owner, there := p.owners[at]
		switch {
		case there && owner != customer:
			return nil, fmt.Errorf("%s: the identity belongs to another customer", i.Channel)
		case there || given[at]:
			continue
		}
		given[at] = true
		i.TenantID, i.CustomerID = p.how.TenantID, customer
		fresh = append(fresh, i)
	}
	return fresh, nil
}

// isUnknown reports whether somebody wrote from an address, within the scope in which
// it is to be linked.
func (p *importPlan) isUnknown(i identity.RecordIdentity) bool {
	return p.unknown[addressed{i.Channel, i.ExternalID, i.InstanceID}]
}

// together gives a customer with what a record says of it, and the fields that differ.
func together(was, says identity.Record) (is identity.Record, changed []string) {
	is = was
	from := texts(&says)
	for n, f := range texts(&is) {
		if said := *from[n].value; said != "" && said != *f.value {
			*f.value = said
			changed = append(changed, f.name)
		}
	}
	if len(says.Metadata) > 0 && !sameJSON(was.Metadata, says.Metadata) {
		is.Metadata = says.Metadata
		changed = append(changed, "metadata")
	}
	return is, changed
}

type textColumn struct {
	name  string
	value *string
}

// texts are the columns of a customer that hold text.
func texts(r *identity.Record) []textColumn {
	return []textColumn{
		{"email", &r.Email}, {"phone_number", &r.PhoneNumber}, {"first_name", &r.FirstName}, {"last_name", &r.LastName}, {"company_name", &r.CompanyName},
		{"locale", &r.Locale}, {"timezone", &r.Timezone}, {"fk_id", &r.FKID}, {"fk_user_id", &r.FKUserID}, {"source", &r.Source}, {"context", &r.Context},
	}
}

func sameJSON(a, b json.RawMessage) bool {
	if string(a) == string(b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
