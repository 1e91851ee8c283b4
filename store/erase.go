package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hydragate/claim"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// EraseCustomer deletes a customer and all its personal data in one transaction: everything that
// DeleteCustomer deletes; the customers merged into it; all messages, replies, deliveries,
// receipts and failed attempts of its addresses with their conversations (in groups, only its own
// messages and the replies to them); identities of unknown senders with the same addresses; and
// stored responses that mention it. In the audit log and the address history, pseudonyms replace
// the external IDs. Addresses that the customer once had are included unless another customer has
// them now.
//
// A customer that was deleted before can still be erased. EraseCustomer returns the targets of the
// deleted claim codes, and identity.ErrNotFound if there is nothing to erase, for example because
// the customer was erased before.
func (s *Store) EraseCustomer(
	ctx context.Context, tenant, id string, by identity.Actor,
) (targets []claim.Target, err error) {
	err = s.db.InTx(ctx, func(tx sqldb.DB) error {
		e := &erasure{store: s, tx: tx, tenant: tenant, customer: id, actor: by, counts: map[string]int64{}}
		for _, step := range []func(context.Context) error{
			e.findCustomer, e.findAddresses, e.lockConversations, e.eraseConversations, e.eraseFailures, e.eraseIdentities,
			e.eraseAliases, e.eraseResponses, e.eraseEvents, e.eraseHistory, e.eraseCustomer, e.recordErasure,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		targets = claimTargets(e.deleted)
		return s.requestScrub(ctx, tx)
	})
	if errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		s.scrubErased(ctx)
	}
	return targets, s.customerError("erase customer", err)
}

// An erasure is the state of one transaction that erases a customer or an unknown sender.
type erasure struct {
	store    *Store
	tx       sqldb.DB
	tenant   string
	customer string // empty for an unknown sender
	instance string // if not empty, only this instance is included
	actor    identity.Actor

	exists        bool
	customers     []string        // the customer and the customers merged into it
	terms         []string        // names, addresses and numbers that identify the customer
	addresses     []addressOwners // present and former addresses
	conversations []addressConversation
	deleted       []lockedIdentity
	identityIDs   []string         // present and former identities
	counts        map[string]int64 // deleted or changed rows, by kind
}

// findCustomer locks the customer and collects the terms that identify it.
func (e *erasure) findCustomer(ctx context.Context) error {
	absorbed, err := mergedCustomers(ctx, e.tx, e.tenant, e.customer)
	if err != nil {
		return err
	}
	e.customers = append([]string{e.customer}, absorbed...)
	for _, table := range []string{`customers`, `merged_customers`} {
		lock := ``
		if table == `customers` {
			lock = e.store.dialect.ForUpdate()
		}
		err := e.forEachChunk(e.customers, func(in string, args []any) error {
			rs, err := e.tx.Query(ctx, `
				select id, email, phone_number, first_name, last_name, company_name, fk_id, fk_user_id from `+table+`
				where tenant_id = $1 and id in (`+in+`) order by id`+lock, args...)
			_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
				columns := make([]string, 8)
				dest := make([]any, len(columns))
				for i := range columns {
					dest[i] = sqldb.Text(&columns[i])
				}
				err := sc(dest...)
				e.exists = e.exists || columns[0] == e.customer
				e.terms = append(e.terms, columns[1:]...)
				return struct{}{}, err
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// findAddresses collects the addresses that the customer has or had. It returns
// identity.ErrNotFound if there is neither a customer nor an address.
func (e *erasure) findAddresses(ctx context.Context) error {
	found := map[[2]string]bool{}
	read := func(rs sqldb.Rows, err error) error {
		_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
			var id, channel, externalID string
			err := sc(sqldb.Text(&id), &channel, &externalID)
			found[[2]string{channel, externalID}] = true
			e.identityIDs = append(e.identityIDs, id)
			return struct{}{}, err
		})
		return err
	}
	err := e.forEachChunk(e.customers, func(in string, args []any) error {
		err := read(e.tx.Query(ctx, `
			select identity_id, channel, external_id from identity_owners
			where tenant_id = $1 and customer_id in (`+in+`) and erased_at is null`, args...))
		if err != nil {
			return err
		}
		return read(e.tx.Query(ctx, `
			select id, channel, external_id from identities
			where tenant_id = $1 and customer_id in (`+in+`)`, args...))
	})
	if err != nil {
		return err
	}
	if !e.exists && len(found) == 0 {
		return identity.ErrNotFound
	}
	accounts := map[[2]string]bool{}
	for k := range found {
		account, err := e.store.accountOf(ctx, e.tx, e.tenant, k[0], k[1])
		if err != nil {
			return err
		}
		accounts[[2]string{k[0], account}] = true
	}
	for k := range accounts {
		a, err := e.store.loadAddressOwners(ctx, e.tx, e.tenant, e.customer, k[0], k[1])
		if err != nil {
			return err
		}
		e.addAddress(a)
	}
	return nil
}

// lockConversations collects the conversations of the addresses and locks their queues, so that no
// worker processes them until the transaction ends.
func (e *erasure) lockConversations(ctx context.Context) error {
	for _, a := range e.addresses {
		included := func(instance string) bool { return e.includes(a, instance) }
		conversations, err := addressConversations(ctx, e.tx, e.tenant, a, included)
		if err != nil {
			return err
		}
		e.conversations = append(e.conversations, conversations...)
	}
	return e.forEachChunk(e.directConversations(), func(in string, args []any) error {
		rs, err := e.tx.Query(ctx, `
			select kind from lanes where tenant_id = $1 and conversation_id in (`+in+`)
			order by conversation_id, kind`+e.store.dialect.ForUpdate(), args...)
		_, err = sqldb.ScanAll(rs, err, sqldb.ScanString)
		return err
	})
}

// includes reports whether messages from an address to an instance are erased: those that belong to
// no other customer, and for an unknown sender those that belong to none.
func (e *erasure) includes(a addressOwners, instance string) bool {
	if e.instance != "" && e.instance != instance {
		return false
	}
	if e.customer != "" {
		return a.isUncontested(instance)
	}
	return !hasInstance(a.otherCustomers, instance) && !hasInstance(a.otherCustomers, "")
}

// directConversations returns the sorted IDs of the direct conversations.
func (e *erasure) directConversations() []string {
	var ids []string
	for _, c := range e.conversations {
		if !c.group {
			ids = append(ids, c.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// eraseConversations deletes the direct conversations, and in groups the customer's messages and
// the replies to them.
func (e *erasure) eraseConversations(ctx context.Context) error {
	err := e.forEachChunk(e.directConversations(), func(in string, args []any) error {
		return e.deleteCounted(ctx, args, [][2]string{
			{"receipts", deleteReceiptsSQL(`o.conversation_id in (` + in + `)`)},
			{"deliveries", `delete from deliveries where tenant_id = $1 and conversation_id in (` + in + `)`},
			{"replies", `delete from outbox where tenant_id = $1 and conversation_id in (` + in + `)`},
			{"messages", `delete from messages where tenant_id = $1 and conversation_id in (` + in + `)`},
			{"conversations", `delete from conversations where tenant_id = $1 and id in (` + in + `)`},
		})
	})
	if err != nil {
		return err
	}
	const sentMessages = `(select m.id from messages m where m.tenant_id = $1 and m.conversation_id = $2
		and m.sender_id = $3)`
	for _, c := range e.conversations {
		if !c.group {
			continue
		}
		err := e.deleteCounted(ctx, []any{e.tenant, c.id, c.ExternalID}, [][2]string{
			{"receipts", deleteReceiptsSQL(`o.conversation_id = $2 and (o.recipient = $3 or o.message_id in ` + sentMessages +
				`)`)},
			{"replies", `delete from outbox where tenant_id = $1 and conversation_id = $2
				and (recipient = $3 or message_id in ` + sentMessages + `)`},
			{"deliveries", `delete from deliveries where tenant_id = $1 and conversation_id = $2 and message_id in ` +
				sentMessages},
			{"messages", `delete from messages where tenant_id = $1 and conversation_id = $2 and sender_id = $3`},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteReceiptsSQL returns the statement that deletes the receipts of the replies that match a
// condition.
func deleteReceiptsSQL(replies string) string {
	return `
		delete from receipts
		where tenant_id = $1 and (instance_id, channel, provider_id) in (
			select o.instance_id, o.channel, o.provider_id from outbox o where o.tenant_id = $1 and o.provider_id is not null
				and ` + replies + `)`
}

// eraseFailures deletes the failed claim attempts of the addresses.
func (e *erasure) eraseFailures(ctx context.Context) error {
	for _, a := range e.addresses {
		rs, err := e.tx.Query(ctx, `
			select distinct instance_id from claim_failures where tenant_id = $1 and channel = $2 and sender_id = $3`,
			e.tenant, a.channel, a.externalID)
		instances, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if !e.includes(a, i) {
				continue
			}
			err := e.deleteCounted(ctx, []any{e.tenant, a.channel, a.externalID, i}, [][2]string{
				{"failures", `delete from claim_failures where tenant_id = $1 and channel = $2 and sender_id = $3
					and instance_id = $4`},
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseIdentities deletes the identities of the customer, and those of unknown senders with the
// same addresses.
func (e *erasure) eraseIdentities(ctx context.Context) error {
	var ids []string
	for _, a := range e.addresses {
		for _, i := range slices.Concat(a.own, a.unknownSenders) {
			if e.includes(a, i.InstanceID) {
				ids = append(ids, i.ID)
			}
		}
	}
	slices.Sort(ids)
	e.identityIDs = append(e.identityIDs, ids...)
	err := e.forEachChunk(ids, func(in string, args []any) error {
		locked, err := e.store.lockIdentities(ctx, e.tx, `tenant_id = $1 and id in (`+in+`)`, args...)
		e.deleted = append(e.deleted, locked...)
		return err
	})
	if err != nil {
		return err
	}
	// An identity may have been linked to another customer before it was locked.
	e.deleted = slices.DeleteFunc(e.deleted, func(i lockedIdentity) bool {
		return i.CustomerID != "" && !slices.Contains(e.customers, i.CustomerID)
	})
	ids = ids[:0]
	for _, i := range e.deleted {
		ids = append(ids, i.ID)
	}
	return e.forEachChunk(ids, func(in string, args []any) error {
		_, err := e.tx.Exec(ctx, `
			update conversations set identity_id = null where tenant_id = $1 and identity_id in (`+in+`)`, args...)
		if err != nil {
			return err
		}
		return e.deleteCounted(ctx, args, [][2]string{
			{"identities", `delete from identities where tenant_id = $1 and id in (` + in + `)`},
		})
	})
}

// eraseAliases deletes the aliases of the addresses that no identity has anymore. Pseudonyms of the aliases
// are recorded, so that earlier messages from them are dropped.
func (e *erasure) eraseAliases(ctx context.Context) error {
	for _, a := range e.addresses {
		before := e.counts["aliases"]
		err := e.deleteCounted(ctx, []any{e.tenant, a.channel, a.externalID}, [][2]string{{"aliases", `
			delete from aliases where tenant_id = $1 and channel = $2 and (external_id = $3 or alias = $3) and not exists (
				select 1 from identities i
				where i.tenant_id = $1 and i.channel = $2 and i.external_id = aliases.external_id)`}})
		if err != nil {
			return err
		}
		if e.counts["aliases"] == before || e.instance != "" {
			continue
		}
		for _, alias := range a.aliases {
			if err := e.recordSender(ctx, senderErased, identity.Address{Channel: a.channel, ExternalID: alias}); err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseCustomer deletes the customer and the archived customers merged into it.
func (e *erasure) eraseCustomer(ctx context.Context) error {
	return e.forEachChunk(e.customers, func(in string, args []any) error {
		return e.deleteCounted(ctx, args, [][2]string{
			{"invites", `delete from invites where tenant_id = $1 and customer_id in (` + in + `)`},
			{"merged", `delete from merged_customers where tenant_id = $1 and id in (` + in + `)`},
			{"", `delete from customer_merges where tenant_id = $1 and customer_id in (` + in + `)`},
			{"", `delete from customers where tenant_id = $1 and id in (` + in + `)`},
		})
	})
}

// recordErasure records the event with the counts of deleted rows, and without personal data.
func (e *erasure) recordErasure(ctx context.Context) error {
	return recordEvents(ctx, e.tx, identity.Event{
		TenantID: e.tenant, Kind: "customer.erased", Actor: e.actor,
		CustomerID: e.customer, Detail: e.countDetail(),
	})
}

// countDetail returns the counts of deleted rows as the detail of an event.
func (e *erasure) countDetail() map[string]string {
	detail := map[string]string{}
	for name, n := range e.counts {
		detail[name] = fmt.Sprint(n)
	}
	return detail
}

// deleteCounted runs statements in order, each given with the name under which its rows are
// counted, or "".
func (e *erasure) deleteCounted(ctx context.Context, args []any, deletes [][2]string) error {
	for _, d := range deletes {
		n, err := e.tx.Exec(ctx, d[1], args...)
		if err != nil {
			return err
		}
		if d[0] != "" {
			e.counts[d[0]] += n
		}
	}
	return nil
}

// forEachChunk calls f with chunks of ids: in is a list of placeholders for the chunk, args the
// tenant followed by the chunk.
func (e *erasure) forEachChunk(ids []string, f func(in string, args []any) error) error {
	for chunk := range slices.Chunk(ids, 200) {
		args, placeholders := []any{e.tenant}, make([]string, len(chunk))
		for i, id := range chunk {
			args = append(args, id)
			placeholders[i] = sqldb.Placeholder(i + 2)
		}
		if err := f(strings.Join(placeholders, ", "), args); err != nil {
			return err
		}
	}
	return nil
}
