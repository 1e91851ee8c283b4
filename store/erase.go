package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hydragate/claim"
	"hydragate/identity"
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
func (s *Store) EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Subject, err error) {
	err = s.again(ctx, func(tx db) error {
		e := &erasure{s: s, tx: tx, tenant: tenant, customer: id, by: by, counts: map[string]int64{}}
		for _, step := range []func(context.Context) error{
			e.findPerson, e.findAccounts, e.findTalks, e.eraseTalks, e.eraseFailures, e.eraseIdentities,
			e.eraseAnswers, e.eraseEvents, e.eraseHistory, e.eraseCustomer, e.leaveReceipt,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		void = subjects(e.gone)
		return nil
	})
	if errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	return void, s.customerError("erase customer", err)
}

// An erasure is what one transaction finds of a customer, and removes.
type erasure struct {
	s        *Store
	tx       db
	tenant   string
	customer string
	by       identity.Actor

	exists    bool
	customers []string  // the customer, and who was merged into it
	words     []string  // that tell who it is
	accounts  []account // it has or had
	talks     []talk
	gone      []held
	ids       []string // of identities, also of those gone before
	counts    map[string]int64
}

// findPerson locks the customer and reads by which words it is known.
func (e *erasure) findPerson(ctx context.Context) error {
	absorbed, err := absorbedBy(ctx, e.tx, e.tenant, e.customer)
	if err != nil {
		return err
	}
	e.customers = append([]string{e.customer}, absorbed...)
	for _, table := range []string{`customers`, `merged_customers`} {
		lock := ``
		if table == `customers` {
			lock = e.s.d.locked()
		}
		err := e.each(e.customers, func(in string, args []any) error {
			rs, err := e.tx.Query(ctx, `
				select id, email, phone_number, first_name, last_name, company_name, fk_id, fk_user_id from `+table+`
				where tenant_id = $1 and id in (`+in+`) order by id`+lock, args...)
			_, err = all(rs, err, func(sc scan) (struct{}, error) {
				words := make([]string, 8)
				dest := make([]any, len(words))
				for i := range words {
					dest[i] = text(&words[i])
				}
				err := sc(dest...)
				e.exists = e.exists || words[0] == e.customer
				e.words = append(e.words, words[1:]...)
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

// findAccounts reads which accounts the customer has, and had and nobody else has.
func (e *erasure) findAccounts(ctx context.Context) error {
	known := map[[2]string]bool{}
	read := func(rs rows, err error) error {
		_, err = all(rs, err, func(sc scan) (struct{}, error) {
			var id, channel, externalID string
			err := sc(text(&id), &channel, &externalID)
			known[[2]string{channel, externalID}] = true
			e.ids = append(e.ids, id)
			return struct{}{}, err
		})
		return err
	}
	err := e.each(e.customers, func(in string, args []any) error {
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
		a, err := e.s.accountOf(ctx, e.tx, e.tenant, e.customer, k[0], k[1])
		if err != nil {
			return err
		}
		e.accounts = append(e.accounts, a)
		for _, h := range slices.Concat(a.ours, a.nobody) {
			e.words = append(e.words, h.DisplayName, h.Username)
		}
	}
	return nil
}

// findTalks finds conversations and keeps workers from them until the end.
func (e *erasure) findTalks(ctx context.Context) error {
	for _, a := range e.accounts {
		talks, err := talksOf(ctx, e.tx, e.tenant, a, a.free)
		if err != nil {
			return err
		}
		e.talks = append(e.talks, talks...)
	}
	return e.each(e.direct(), func(in string, args []any) error {
		rs, err := e.tx.Query(ctx, `select kind from lanes where tenant_id = $1 and conversation_id in (`+in+`) order by conversation_id, kind`+e.s.d.locked(), args...)
		_, err = all(rs, err, scanString)
		return err
	})
}

// direct gives the ids of conversations that are with the person alone.
func (e *erasure) direct() []string {
	var ids []string
	for _, t := range e.talks {
		if !t.group {
			ids = append(ids, t.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// eraseTalks removes conversations with the person, and what it wrote and was answered
// in groups.
func (e *erasure) eraseTalks(ctx context.Context) error {
	err := e.each(e.direct(), func(in string, args []any) error {
		return e.erase(ctx, args, [][2]string{
			{"receipts", receiptsOf(`o.conversation_id in (` + in + `)`)},
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
	for _, t := range e.talks {
		if !t.group {
			continue
		}
		err := e.erase(ctx, []any{e.tenant, t.id, t.ExternalID}, [][2]string{
			{"receipts", receiptsOf(`o.conversation_id = $2 and (o.recipient = $3 or o.message_id in ` + written + `)`)},
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

// receiptsOf deletes the receipts of replies.
func receiptsOf(replies string) string {
	return `
		delete from receipts
		where tenant_id = $1 and (instance_id, channel, provider_id) in (
			select o.instance_id, o.channel, o.provider_id from outbox o where o.tenant_id = $1 and o.provider_id is not null and ` + replies + `)`
}

// eraseFailures removes what counts wrong codes.
func (e *erasure) eraseFailures(ctx context.Context) error {
	for _, a := range e.accounts {
		rs, err := e.tx.Query(ctx, `
			select distinct instance_id from claim_failures where tenant_id = $1 and channel = $2 and sender_id = $3`, e.tenant, a.channel, a.externalID)
		instances, err := all(rs, err, scanString)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if !a.free(i) {
				continue
			}
			err := e.erase(ctx, []any{e.tenant, a.channel, a.externalID, i}, [][2]string{
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
	for _, a := range e.accounts {
		for _, h := range slices.Concat(a.ours, a.nobody) {
			if a.free(h.InstanceID) {
				ids = append(ids, h.ID)
			}
		}
	}
	slices.Sort(ids)
	e.ids = append(e.ids, ids...)
	err := e.each(ids, func(in string, args []any) error {
		held, err := e.s.heldIdentities(ctx, e.tx, `tenant_id = $1 and id in (`+in+`)`, args...)
		e.gone = append(e.gone, held...)
		return err
	})
	if err != nil {
		return err
	}
	// Locked only now: another customer may have got one since its account was read.
	e.gone = slices.DeleteFunc(e.gone, func(h held) bool { return h.CustomerID != "" && !slices.Contains(e.customers, h.CustomerID) })
	ids = ids[:0]
	for _, h := range e.gone {
		ids = append(ids, h.ID)
	}
	return e.each(ids, func(in string, args []any) error {
		if _, err := e.tx.Exec(ctx, `update conversations set identity_id = null where tenant_id = $1 and identity_id in (`+in+`)`, args...); err != nil {
			return err
		}
		return e.erase(ctx, args, [][2]string{{"identities", `delete from identities where tenant_id = $1 and id in (` + in + `)`}})
	})
}

// eraseCustomer removes the customer, and who was merged into it.
func (e *erasure) eraseCustomer(ctx context.Context) error {
	return e.each(e.customers, func(in string, args []any) error {
		return e.erase(ctx, args, [][2]string{
			{"invites", `delete from invites where tenant_id = $1 and customer_id in (` + in + `)`},
			{"merged", `delete from merged_customers where tenant_id = $1 and id in (` + in + `)`},
			{"", `delete from customer_merges where tenant_id = $1 and customer_id in (` + in + `)`},
			{"", `delete from customers where tenant_id = $1 and id in (` + in + `)`},
		})
	})
}

// leaveReceipt tells the audit log how much was removed, and nothing of what.
func (e *erasure) leaveReceipt(ctx context.Context) error {
	detail := map[string]string{}
	for name, n := range e.counts {
		detail[name] = fmt.Sprint(n)
	}
	return record(ctx, e.tx, identity.Event{TenantID: e.tenant, Kind: "customer.erased", Actor: e.by, CustomerID: e.customer, Detail: detail})
}

// erase runs deletes in their order and counts what they remove, by name.
func (e *erasure) erase(ctx context.Context, args []any, deletes [][2]string) error {
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

// each calls f for ids, some at a time: in are their places in a list, args the tenant
// and they.
func (e *erasure) each(ids []string, f func(in string, args []any) error) error {
	for some := range slices.Chunk(ids, 200) {
		args, places := []any{e.tenant}, make([]string, len(some))
		for i, id := range some {
			args = append(args, id)
			places[i] = place(i + 2)
		}
		if err := f(strings.Join(places, ", "), args); err != nil {
			return err
		}
	}
	return nil
}
