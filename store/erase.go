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

// EraseCustomer removes a customer and all personal data: what DeleteCustomer removes;
// who was merged into it; every message, reply, delivery, receipt and failure of its
// accounts, with their conversations (of a group, only what it wrote and was answered);
// unknown senders' rows of the same accounts; and answers kept for repeated calls that
// speak of it. In the audit log and the history of addresses pseudonyms take the place
// of external ids. Accounts that it had once, and that nobody else has, count.
//
// A customer that was deleted can be erased still. identity.ErrNotFound when there is
// nothing to erase, so also the second time. It gives whose proofs are void now.
func (s *Store) EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error) {
	err = s.retryTx(ctx, func(tx sqldb.DB) error {
		e := &erasure{store: s, tx: tx, tenant: tenant, customer: id, actor: by, counts: map[string]int64{}}
		for _, step := range []func(context.Context) error{
			e.findCustomer, e.findAddresses, e.lockConversations, e.eraseConversations, e.eraseFailures, e.eraseIdentities,
			e.eraseResponses, e.eraseEvents, e.eraseHistory, e.eraseCustomer, e.recordErasure,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		void = claimTargets(e.deleted)
		return nil
	})
	if errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	return void, s.customerError("erase customer", err)
}

// An erasure is what one transaction finds of a customer, and removes.
type erasure struct {
	store    *Store
	tx       sqldb.DB
	tenant   string
	customer string
	actor    identity.Actor

	exists        bool
	customers     []string        // the customer, and who was merged into it
	terms         []string        // that tell who it is
	addresses     []addressOwners // it has or had
	conversations []addressConversation
	deleted       []lockedIdentity
	identityIDs   []string // of identities, also of those gone before
	counts        map[string]int64
}

// findCustomer locks the customer and reads by which words it is known.
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
				words := make([]string, 8)
				dest := make([]any, len(words))
				for i := range words {
					dest[i] = sqldb.Text(&words[i])
				}
				err := sc(dest...)
				e.exists = e.exists || words[0] == e.customer
				e.terms = append(e.terms, words[1:]...)
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

// findAddresses reads which accounts the customer has, and had and nobody else has.
func (e *erasure) findAddresses(ctx context.Context) error {
	known := map[[2]string]bool{}
	read := func(rs sqldb.Rows, err error) error {
		_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
			var id, channel, externalID string
			err := sc(sqldb.Text(&id), &channel, &externalID)
			known[[2]string{channel, externalID}] = true
			e.identityIDs = append(e.identityIDs, id)
			return struct{}{}, err
		})
		return err
	}
	err := e.forEachChunk(e.customers, func(in string, args []any) error {
		if err := read(e.tx.Query(ctx, `select identity_id, channel, external_id from identity_owners where tenant_id = $1 and customer_id in (`+in+`) and erased_at is null`, args...)); err != nil {
			return err
		}
		return read(e.tx.Query(ctx, `select id, channel, external_id from identities where tenant_id = $1 and customer_id in (`+in+`)`, args...))
	})
	if err != nil {
		return err
	}
	if !e.exists && len(known) == 0 {
		return identity.ErrNotFound
	}
	for k := range known {
		a, err := e.store.loadAddressOwners(ctx, e.tx, e.tenant, e.customer, k[0], k[1])
		if err != nil {
			return err
		}
		e.addresses = append(e.addresses, a)
		for _, h := range slices.Concat(a.own, a.unknownSenders) {
			e.terms = append(e.terms, h.DisplayName, h.Username)
		}
	}
	return nil
}

// lockConversations finds conversations and keeps workers from them until the end.
func (e *erasure) lockConversations(ctx context.Context) error {
	for _, a := range e.addresses {
		talks, err := addressConversations(ctx, e.tx, e.tenant, a, a.isUncontested)
		if err != nil {
			return err
		}
		e.conversations = append(e.conversations, talks...)
	}
	return e.forEachChunk(e.directConversations(), func(in string, args []any) error {
		rs, err := e.tx.Query(ctx, `select kind from lanes where tenant_id = $1 and conversation_id in (`+in+`) order by conversation_id, kind`+e.store.dialect.ForUpdate(), args...)
		_, err = sqldb.ScanAll(rs, err, sqldb.ScanString)
		return err
	})
}

// directConversations gives the ids of conversations that are with the person alone.
func (e *erasure) directConversations() []string {
	var ids []string
	for _, t := range e.conversations {
		if !t.group {
			ids = append(ids, t.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// eraseConversations removes conversations with the person, and what it wrote and was answered
// in groups.
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
	const written = `(select m.id from messages m where m.tenant_id = $1 and m.conversation_id = $2 and m.sender_id = $3)`
	for _, t := range e.conversations {
		if !t.group {
			continue
		}
		err := e.deleteCounted(ctx, []any{e.tenant, t.id, t.ExternalID}, [][2]string{
			{"receipts", deleteReceiptsSQL(`o.conversation_id = $2 and (o.recipient = $3 or o.message_id in ` + written + `)`)},
			{"replies", `delete from outbox where tenant_id = $1 and conversation_id = $2 and (recipient = $3 or message_id in ` + written + `)`},
			{"deliveries", `delete from deliveries where tenant_id = $1 and conversation_id = $2 and message_id in ` + written},
			{"messages", `delete from messages where tenant_id = $1 and conversation_id = $2 and sender_id = $3`},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteReceiptsSQL deletes the receipts of replies.
func deleteReceiptsSQL(replies string) string {
	return `
		delete from receipts
		where tenant_id = $1 and (instance_id, channel, provider_id) in (
			select o.instance_id, o.channel, o.provider_id from outbox o where o.tenant_id = $1 and o.provider_id is not null and ` + replies + `)`
}

// eraseFailures removes what counts wrong codes.
func (e *erasure) eraseFailures(ctx context.Context) error {
	for _, a := range e.addresses {
		rs, err := e.tx.Query(ctx, `
			select distinct instance_id from claim_failures where tenant_id = $1 and channel = $2 and sender_id = $3`, e.tenant, a.channel, a.externalID)
		instances, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if !a.isUncontested(i) {
				continue
			}
			err := e.deleteCounted(ctx, []any{e.tenant, a.channel, a.externalID, i}, [][2]string{
				{"failures", `delete from claim_failures where tenant_id = $1 and channel = $2 and sender_id = $3 and instance_id = $4`}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseIdentities removes the customer's identities, and unknown senders' of the same
// accounts.
func (e *erasure) eraseIdentities(ctx context.Context) error {
	var ids []string
	for _, a := range e.addresses {
		for _, h := range slices.Concat(a.own, a.unknownSenders) {
			if a.isUncontested(h.InstanceID) {
				ids = append(ids, h.ID)
			}
		}
	}
	slices.Sort(ids)
	e.identityIDs = append(e.identityIDs, ids...)
	err := e.forEachChunk(ids, func(in string, args []any) error {
		held, err := e.store.lockIdentities(ctx, e.tx, `tenant_id = $1 and id in (`+in+`)`, args...)
		e.deleted = append(e.deleted, held...)
		return err
	})
	if err != nil {
		return err
	}
	// Locked only now: another customer may have got one since its account was read.
	e.deleted = slices.DeleteFunc(e.deleted, func(h lockedIdentity) bool { return h.CustomerID != "" && !slices.Contains(e.customers, h.CustomerID) })
	ids = ids[:0]
	for _, h := range e.deleted {
		ids = append(ids, h.ID)
	}
	return e.forEachChunk(ids, func(in string, args []any) error {
		if _, err := e.tx.Exec(ctx, `update conversations set identity_id = null where tenant_id = $1 and identity_id in (`+in+`)`, args...); err != nil {
			return err
		}
		return e.deleteCounted(ctx, args, [][2]string{{"identities", `delete from identities where tenant_id = $1 and id in (` + in + `)`}})
	})
}

// eraseCustomer removes the customer, and who was merged into it.
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

// recordErasure tells the audit log how much was removed, and nothing of what.
func (e *erasure) recordErasure(ctx context.Context) error {
	detail := map[string]string{}
	for name, n := range e.counts {
		detail[name] = fmt.Sprint(n)
	}
	return recordEvents(ctx, e.tx, identity.Event{TenantID: e.tenant, Kind: "customer.erased", Actor: e.actor, CustomerID: e.customer, Detail: detail})
}

// deleteCounted runs deletes in their order and counts what they remove, by name.
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

// forEachChunk calls f for ids, some at a time: in are their places in a list, args the tenant
// and they.
func (e *erasure) forEachChunk(ids []string, f func(in string, args []any) error) error {
	for some := range slices.Chunk(ids, 200) {
		args, places := []any{e.tenant}, make([]string, len(some))
		for i, id := range some {
			args = append(args, id)
			places[i] = sqldb.Placeholder(i + 2)
		}
		if err := f(strings.Join(places, ", "), args); err != nil {
			return err
		}
	}
	return nil
}
