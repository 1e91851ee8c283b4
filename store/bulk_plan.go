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
	"hydragate/store/sqldb"
)

// An importPlan decides about records. It knows what the database holds of whatever
// they name, and what it decided before.
type importPlan struct {
	store   *Store
	options identity.ImportOptions

	customers      map[string]*identity.Record // by id
	byEmail        map[string]string           // ids, by address in lower case
	byFK           map[string]string
	merged         map[string]bool          // ids of customers that are somebody else now
	owners         map[scopedAddress]string // ids of customers
	unknownSenders map[scopedAddress]bool   // somebody wrote from there; of any instance
	instances      instanceIndex
	changes        []importChange
}

// scopedAddress is an address within its scope.
type scopedAddress struct{ channel, externalID, instance string }

// A importChange is what is to be done about one record.
type importChange struct {
	record identity.Record // the customer as it is to be
	create bool
	fields []string // that change
	link   []identity.RecordIdentity
}

func newImportPlan(s *Store, how identity.ImportOptions) *importPlan {
	return &importPlan{
		store: s, options: how, customers: map[string]*identity.Record{}, byEmail: map[string]string{}, byFK: map[string]string{}, merged: map[string]bool{},
		owners: map[scopedAddress]string{}, unknownSenders: map[scopedAddress]bool{},
	}
}

// read looks up everything that records name.
func (p *importPlan) read(ctx context.Context, d sqldb.DB, records []identity.Record) error {
	var ids, emails, fks []string
	external := map[string][]string{} // by channel
	for _, r := range records {
		ids, emails, fks = appendNonEmpty(ids, r.ID), appendNonEmpty(emails, r.Email), appendNonEmpty(fks, r.FKID)
		for _, i := range r.Identities {
			external[i.Channel] = append(external[i.Channel], i.ExternalID)
		}
	}
	if p.instances == nil {
		var err error
		if p.instances, err = loadInstanceIndex(ctx, d, p.options.TenantID); err != nil {
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
			instance, _ := p.instances.resolve(i.Instance)
			ids = appendNonEmpty(ids, p.owners[scopedAddress{i.Channel, i.ExternalID, instance}])
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

func appendNonEmpty(values []string, v string) []string {
	if v == "" {
		return values
	}
	return append(values, v)
}

func (p *importPlan) readOwners(ctx context.Context, d sqldb.DB, channel string, external []string) error {
	type owned struct {
		at       scopedAddress
		customer string
	}
	for some := range slices.Chunk(external, maxListed) {
		list, args := sqldb.PlaceholderList([]any{p.options.TenantID, channel}, some, "$%d")
		rs, err := d.Query(ctx, `
			select channel, external_id, instance_id, customer_id from identities
			where tenant_id = $1 and channel = $2 and external_id in (`+list+`)`, args...)
		found, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (o owned, err error) {
			return o, sc(&o.at.channel, &o.at.externalID, sqldb.Text(&o.at.instance), sqldb.Text(&o.customer))
		})
		if err != nil {
			return fmt.Errorf("look up identities: %w", err)
		}
		for _, o := range found {
			if o.customer != "" {
				p.owners[o.at] = o.customer
				continue
			}
			p.unknownSenders[o.at] = true
			p.unknownSenders[scopedAddress{o.at.channel, o.at.externalID, ""}] = true
		}
	}
	return nil
}

// maxListed is how many values a statement lists at most.
const maxListed = 512

func (p *importPlan) readCustomers(ctx context.Context, d sqldb.DB, values []string, condition, sign string) error {
	for some := range slices.Chunk(values, maxListed) {
		list, args := sqldb.PlaceholderList([]any{p.options.TenantID}, some, sign)
		rs, err := d.Query(ctx, `
			select `+recordColumns+` from customers
			where tenant_id = $1 and `+fmt.Sprintf(condition, list), args...)
		found, err := sqldb.ScanAll(rs, err, scanRecord)
		if err != nil {
			return fmt.Errorf("look up customers: %w", err)
		}
		for _, r := range found {
			if p.customers[r.ID] == nil { // what was decided holds
				p.indexCustomer(&r)
			}
		}
	}
	return nil
}

func (p *importPlan) readMerged(ctx context.Context, d sqldb.DB, ids []string) error {
	for some := range slices.Chunk(ids, maxListed) {
		list, args := sqldb.PlaceholderList([]any{p.options.TenantID}, some, "$%d")
		rs, err := d.Query(ctx, `select customer_id from customer_merges where tenant_id = $1 and customer_id in (`+list+`)`, args...)
		found, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (id string, err error) { return id, sc(sqldb.Text(&id)) })
		if err != nil {
			return fmt.Errorf("look up merged customers: %w", err)
		}
		for _, id := range found {
			p.merged[id] = true
		}
	}
	return nil
}

func (p *importPlan) indexCustomer(r *identity.Record) {
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
func (p *importPlan) decide(records []identity.Record) []identity.ImportResult {
	p.changes = p.changes[:0]
	done := make([]identity.ImportResult, len(records))
	for n, r := range records {
		c, err := p.planRecord(r)
		if err != nil {
			done[n].Err = err
			continue
		}
		done[n] = identity.ImportResult{Created: c.create, Updated: !c.create && len(c.fields) > 0, Linked: len(c.link)}
		p.applyChange(c)
	}
	return done
}

func (p *importPlan) applyChange(c importChange) {
	if was := p.customers[c.record.ID]; was != nil {
		delete(p.byEmail, strings.ToLower(was.Email))
		delete(p.byFK, was.FKID)
	}
	p.indexCustomer(&c.record)
	for _, i := range c.link {
		p.owners[scopedAddress{i.Channel, i.ExternalID, i.InstanceID}] = c.record.ID
	}
	if c.create || len(c.fields) > 0 || len(c.link) > 0 {
		p.changes = append(p.changes, c)
	}
}

func (p *importPlan) planRecord(r identity.Record) (c importChange, err error) {
	r.TenantID = p.options.TenantID
	r.Identities = slices.Clone(r.Identities)
	for n := range r.Identities {
		if r.Identities[n].InstanceID, err = p.instances.resolve(r.Identities[n].Instance); err != nil {
			return c, err
		}
	}
	id, err := p.resolveCustomer(r)
	if err != nil {
		return c, err
	}
	c.record = r
	if was := p.customers[id]; was != nil {
		c.record, c.fields = mergeRecord(*was, r)
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
	c.link, err = p.newLinks(r.Identities, c.record.ID)
	return c, err
}

// resolveCustomer gives the id of the customer that a record is about; "" is a new one.
func (p *importPlan) resolveCustomer(r identity.Record) (string, error) {
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
		if id, ok := p.owners[scopedAddress{i.Channel, i.ExternalID, i.InstanceID}]; ok && p.isCompatible(id, r) {
			return id, nil
		}
	}
	if r.Email == "" && r.FKID == "" && len(r.Identities) == 0 {
		return "", errors.New("email, fk_id, an identity or an id is needed, to know the customer again")
	}
	return "", nil
}

// isCompatible reports whether a customer is not known by something else than a record says.
func (p *importPlan) isCompatible(id string, r identity.Record) bool {
	c := p.customers[id]
	return c != nil && (r.Email == "" || c.Email == "") && (r.FKID == "" || c.FKID == "")
}

// newLinks gives the identities that are new. A record that names somebody else's is
// refused as a whole.
func (p *importPlan) newLinks(is []identity.RecordIdentity, customer string) ([]identity.RecordIdentity, error) {
	var fresh []identity.RecordIdentity
	given := map[scopedAddress]bool{}
	for _, i := range is {
		at := scopedAddress{i.Channel, i.ExternalID, i.InstanceID}
		owner, there := p.owners[at]
		switch {
		case there && owner != customer:
			return nil, fmt.Errorf("%s: the identity belongs to another customer", i.Channel)
		case there || given[at]:
			continue
		}
		given[at] = true
		i.TenantID, i.CustomerID = p.options.TenantID, customer
		fresh = append(fresh, i)
	}
	return fresh, nil
}

// isUnknownSender reports whether somebody wrote from an address, within the scope in which
// it is to be linked.
func (p *importPlan) isUnknownSender(i identity.RecordIdentity) bool {
	return p.unknownSenders[scopedAddress{i.Channel, i.ExternalID, i.InstanceID}]
}

// mergeRecord gives a customer with what a record says of it, and the fields that differ.
func mergeRecord(was, says identity.Record) (is identity.Record, changed []string) {
	is = was
	from := textColumns(&says)
	for n, f := range textColumns(&is) {
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

// textColumns are the columns of a customer that hold text.
func textColumns(r *identity.Record) []textColumn {
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
