package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"hydragate/identity"
	"hydragate/store/sqldb"
)

// An importPlan decides what to change for each record. It holds the rows that the records refer
// to, updated with the changes already planned.
type importPlan struct {
	store   *Store
	options identity.ImportOptions

	customers      map[string]*identity.Record // by ID
	byEmail        map[string]string           // customer IDs by folded e-mail address
	byFK           map[string]string           // customer IDs by fk_id
	merged         map[string]bool             // IDs of customers merged into another
	owners         map[scopedAddress]string    // customer IDs
	unknownSenders map[scopedAddress]bool      // addresses of unknown senders, also without their instance
	instances      instanceIndex
	changes        []importChange
}

// A scopedAddress is an address and the instance it is limited to, "" for all instances.
type scopedAddress struct{ channel, externalID, instance string }

// An importChange is the planned change for one record.
type importChange struct {
	record identity.Record // the customer after the change
	create bool
	fields []string // the changed fields
	link   []identity.RecordIdentity
}

func newImportPlan(s *Store, options identity.ImportOptions) *importPlan {
	return &importPlan{
		store: s, options: options,
		customers: map[string]*identity.Record{}, byEmail: map[string]string{}, byFK: map[string]string{},
		merged: map[string]bool{}, owners: map[scopedAddress]string{}, unknownSenders: map[scopedAddress]bool{},
	}
}

// read loads the rows that the records refer to.
func (p *importPlan) read(ctx context.Context, d sqldb.DB, records []identity.Record) error {
	var ids, emails, fks []string
	external := map[string][]string{} // by channel
	if err := p.replaceAliases(ctx, d, records); err != nil {
		return err
	}
	for _, r := range records {
		ids, emails, fks = appendNonEmpty(
			ids,
			r.ID,
		), appendNonEmpty(
			emails,
			identity.Fold(r.Email),
		), appendNonEmpty(
			fks,
			r.FKID,
		)
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
		format    string
	}{{ids, `id in (%s)`, "$%d"}, {emails, `email_fold in (%s)`, "$%d"}, {fks, `fk_id in (%s)`, "$%d"}} {
		if err := p.readCustomers(ctx, d, q.values, q.condition, q.format); err != nil {
			return err
		}
	}
	return p.readMerged(ctx, d, ids)
}

// replaceAliases replaces the aliases of accounts in records by the external IDs of the accounts.
func (p *importPlan) replaceAliases(ctx context.Context, d sqldb.DB, records []identity.Record) error {
	for _, r := range records {
		for n, i := range r.Identities {
			account, err := p.store.accountOf(ctx, d, p.options.TenantID, i.Channel, i.ExternalID)
			if err != nil {
				return fmt.Errorf("look up aliases: %w", err)
			}
			r.Identities[n].ExternalID = account
		}
	}
	return nil
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
	for chunk := range slices.Chunk(external, maxListed) {
		list, args := sqldb.PlaceholderList([]any{p.options.TenantID, channel}, chunk, "$%d")
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

// maxListed is the maximum number of values in the list of one statement.
const maxListed = 512

func (p *importPlan) readCustomers(ctx context.Context, d sqldb.DB, values []string, condition, format string) error {
	for chunk := range slices.Chunk(values, maxListed) {
		list, args := sqldb.PlaceholderList([]any{p.options.TenantID}, chunk, format)
		rs, err := d.Query(ctx, `
			select `+recordColumns+` from customers
			where tenant_id = $1 and `+fmt.Sprintf(condition, list), args...)
		found, err := sqldb.ScanAll(rs, err, scanRecord)
		if err != nil {
			return fmt.Errorf("look up customers: %w", err)
		}
		for _, r := range found {
			if p.customers[r.ID] == nil { // keep a customer with planned changes
				p.indexCustomer(&r)
			}
		}
	}
	return nil
}

func (p *importPlan) readMerged(ctx context.Context, d sqldb.DB, ids []string) error {
	for chunk := range slices.Chunk(ids, maxListed) {
		list, args := sqldb.PlaceholderList([]any{p.options.TenantID}, chunk, "$%d")
		rs, err := d.Query(ctx,
			`select customer_id from customer_merges where tenant_id = $1 and customer_id in (`+list+`)`, args...)
		found, err := sqldb.ScanAll(rs, err, sqldb.ScanText)
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
		p.byEmail[identity.Fold(r.Email)] = r.ID
	}
	if r.FKID != "" {
		p.byFK[r.FKID] = r.ID
	}
}

// decide plans the changes for the records in order and returns their results. Each record sees
// the changes planned for the records before it.
func (p *importPlan) decide(records []identity.Record) []identity.ImportResult {
	p.changes = p.changes[:0]
	results := make([]identity.ImportResult, len(records))
	for n, r := range records {
		c, err := p.planRecord(r)
		if err != nil {
			results[n].Err = err
			continue
		}
		results[n] = identity.ImportResult{Created: c.create, Updated: !c.create && len(c.fields) > 0, Linked: len(c.link)}
		p.applyChange(c)
	}
	return results
}

// applyChange updates the indexes with a planned change.
func (p *importPlan) applyChange(c importChange) {
	if before := p.customers[c.record.ID]; before != nil {
		delete(p.byEmail, identity.Fold(before.Email))
		delete(p.byFK, before.FKID)
	}
	p.indexCustomer(&c.record)
	for _, i := range c.link {
		p.owners[scopedAddress{i.Channel, i.ExternalID, i.InstanceID}] = c.record.ID
	}
	if c.create || len(c.fields) > 0 || len(c.link) > 0 {
		p.changes = append(p.changes, c)
	}
}

// planRecord returns the change for one record, or the error for its result.
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
	if current := p.customers[id]; current != nil {
		c.record, c.fields = mergeRecord(*current, r)
	} else {
		c.create = true
		c.record.ID = id
	}
	if c.record.Identities = nil; id == "" {
		c.record.ID = newID()
	}
	if owner, taken := p.byEmail[identity.Fold(c.record.Email)]; taken && c.record.Email != "" && owner != c.record.ID {
		return c, errors.New("email: already used by another customer")
	}
	if owner, taken := p.byFK[c.record.FKID]; taken && c.record.FKID != "" && owner != c.record.ID {
		return c, errors.New("fk_id: already used by another customer")
	}
	c.link, err = p.newLinks(r.Identities, c.record.ID)
	return c, err
}

// resolveCustomer returns the ID of the customer that a record refers to, "" for a new customer.
func (p *importPlan) resolveCustomer(r identity.Record) (string, error) {
	if r.ID != "" {
		if p.merged[r.ID] && p.customers[r.ID] == nil {
			return "", errors.New("id: this customer was merged into another")
		}
		return r.ID, nil
	}
	if id, ok := p.byEmail[identity.Fold(r.Email)]; ok && r.Email != "" {
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
		return "", errors.New("id, email, fk_id or an identity is required to identify the customer")
	}
	return "", nil
}

// isCompatible reports whether a customer's e-mail address and fk_id do not contradict a record.
func (p *importPlan) isCompatible(id string, r identity.Record) bool {
	c := p.customers[id]
	return c != nil && (r.Email == "" || c.Email == "") && (r.FKID == "" || c.FKID == "")
}

// newLinks returns the identities of a record that do not exist yet. It returns an error if one of
// them belongs to another customer; the record is then not imported.
func (p *importPlan) newLinks(is []identity.RecordIdentity, customer string) ([]identity.RecordIdentity, error) {
	var links []identity.RecordIdentity
	seen := map[scopedAddress]bool{}
	for _, i := range is {
		at := scopedAddress{i.Channel, i.ExternalID, i.InstanceID}
		owner, there := p.owners[at]
		switch {
		case there && owner != customer:
			return nil, fmt.Errorf("%s: the identity belongs to another customer", i.Channel)
		case there || seen[at]:
			continue
		}
		seen[at] = true
		i.TenantID, i.CustomerID = p.options.TenantID, customer
		links = append(links, i)
	}
	return links, nil
}

// isUnknownSender reports whether an unknown sender has the address of i in its scope.
func (p *importPlan) isUnknownSender(i identity.RecordIdentity) bool {
	return p.unknownSenders[scopedAddress{i.Channel, i.ExternalID, i.InstanceID}]
}

// mergeRecord returns current updated with the fields that record sets, and the names of the
// changed fields.
func mergeRecord(current, record identity.Record) (merged identity.Record, changed []string) {
	merged = current
	from := textColumns(&record)
	for n, column := range textColumns(&merged) {
		if v := *from[n].value; v != "" && v != *column.value {
			*column.value = v
			changed = append(changed, column.name)
		}
	}
	if len(record.Metadata) > 0 && !sameJSON(current.Metadata, record.Metadata) {
		merged.Metadata = record.Metadata
		changed = append(changed, "metadata")
	}
	return merged, changed
}

type textColumn struct {
	name  string
	value *string
}

// textColumns returns the text columns of a customer.
func textColumns(r *identity.Record) []textColumn {
	return []textColumn{
		{"email", &r.Email},
		{"phone_number", &r.PhoneNumber},
		{"first_name", &r.FirstName},
		{"last_name", &r.LastName},
		{"company_name", &r.CompanyName},
		{"locale", &r.Locale},
		{"timezone", &r.Timezone},
		{"fk_id", &r.FKID},
		{"fk_user_id", &r.FKUserID},
		{"source", &r.Source},
		{"context", &r.Context},
	}
}

// sameJSON reports whether a and b are equal apart from formatting and the order of keys.
func sameJSON(a, b json.RawMessage) bool {
	if string(a) == string(b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
