package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// An accountID is an ID of an external account: the one under which it is stored, or an alias.
type accountID struct {
	id         string
	externalID string // under which the account is stored
	placeID    string // ID of its chat, if id is an alias
	disputed   bool   // also sent with another account
}

// An aliasResolver finds the accounts behind the senders of messages on one channel of a tenant.
type aliasResolver struct {
	store           *Store
	tenant, channel string
	known           map[string]accountID
	added           []accountID
}

// resolveAliases returns messages with the senders that wrote under an alias replaced by the accounts
// that they are, and the statements that store new aliases. A sender whose IDs were known separately
// until now becomes one account. Channels without aliases need no query.
func (s *Store) resolveAliases(
	ctx context.Context, messages []gateway.IncomingMessage,
) (resolved []gateway.IncomingMessage, stmts []sqldb.Statement, err error) {
	resolvers := map[[2]string]*aliasResolver{}
	ids := map[*aliasResolver][]string{}
	for _, a := range messages {
		if !adapters.TraitsOf(a.Channel).Aliases {
			continue
		}
		key := [2]string{a.TenantID, string(a.Channel)}
		if resolvers[key] == nil {
			resolvers[key] = &aliasResolver{store: s, tenant: a.TenantID, channel: key[1]}
		}
		ids[resolvers[key]] = append(append(ids[resolvers[key]], a.Message.Sender.ID), a.Message.Sender.Aliases...)
	}
	if len(resolvers) == 0 {
		return messages, nil, nil
	}
	for r, all := range ids {
		if err := r.load(ctx, all); err != nil {
			return nil, nil, err
		}
	}
	resolved = slices.Clone(messages)
	for i := range resolved {
		if r := resolvers[[2]string{resolved[i].TenantID, string(resolved[i].Channel)}]; r != nil {
			if err := r.resolve(ctx, &resolved[i]); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, r := range resolvers {
		stmts = append(stmts, r.insertStmts()...)
	}
	return resolved, stmts, nil
}

// load reads what is known about IDs. An ID that an identity has is that of its account.
func (r *aliasResolver) load(ctx context.Context, ids []string) error {
	r.known = map[string]accountID{}
	slices.Sort(ids)
	for chunk := range slices.Chunk(slices.Compact(ids), maxListed) {
		list, args := sqldb.PlaceholderList([]any{r.tenant, r.channel}, chunk, "$%d")
		rs, err := r.store.ingestDB.Query(ctx, `
			select alias, external_id, place_id, case when disputed_at is null then 0 else 1 end from aliases
			where tenant_id = $1 and channel = $2 and alias in (`+list+`)
			union all
			select distinct external_id, external_id as account, '', 0 from identities
			where tenant_id = $1 and channel = $2 and external_id in (`+list+`)`, args...)
		found, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (k accountID, err error) {
			var disputed int
			err = sc(&k.id, &k.externalID, &k.placeID, &disputed)
			k.disputed = disputed == 1
			return k, err
		})
		if err != nil {
			return fmt.Errorf("read aliases: %w", err)
		}
		for _, k := range found {
			if before, ok := r.known[k.id]; !ok || before.externalID == k.id {
				r.known[k.id] = k
			}
		}
	}
	return nil
}

// resolve replaces the sender of a message by its account, and connects the account with the other IDs
// that were sent.
func (r *aliasResolver) resolve(ctx context.Context, a *gateway.IncomingMessage) error {
	sender := a.Message.Sender
	if sender.ID == "" {
		return nil
	}
	account, place, err := r.accountOf(ctx, sender, a.Message.Chat.ID)
	if err != nil {
		return err
	}
	for _, id := range append([]string{sender.ID}, sender.Aliases...) {
		k, ok := r.known[id]
		switch {
		case !ok && id == account:
			r.known[id] = accountID{id: id, externalID: id}
		case !ok:
			k = accountID{id: id, externalID: account, placeID: place}
			r.known[id], r.added = k, append(r.added, k)
		case k.externalID == account:
		case k.externalID == id:
			err = r.mergeOrDispute(ctx, id, account, place)
		case !k.disputed:
			err = r.dispute(ctx, k, account)
		}
		if err != nil {
			return err
		}
	}
	if account != sender.ID {
		a.ReplaceSender(account, place)
	}
	return nil
}

// accountOf returns the account of a sender, and the ID of its chat if chat is that of the sender's
// own ID. It is the one that the ID of the sender is known for, else the only one that the aliases are
// known for. An account has at most one phone number, so that an alias does not make another number an
// ID of it.
func (r *aliasResolver) accountOf(
	ctx context.Context, sender adapters.Sender, chat string,
) (account, place string, err error) {
	if k, ok := r.known[sender.ID]; ok {
		if k.externalID == sender.ID || k.disputed {
			return sender.ID, chat, nil
		}
		return k.externalID, k.placeID, nil
	}
	account, place = sender.ID, chat
	for _, id := range sender.Aliases {
		k, ok := r.known[id]
		switch {
		case !ok || k.disputed && k.externalID != id || k.externalID == account:
		case account != sender.ID: // the aliases are of two accounts
			return sender.ID, chat, nil
		default:
			account, place = k.externalID, cmp.Or(k.placeID, k.externalID)
		}
	}
	if account == sender.ID {
		return account, place, nil
	}
	numbers, err := r.numbersOf(ctx, r.store.ingestDB, account, sender.ID)
	if err == nil && len(numbers) > 1 {
		account, place = sender.ID, chat
	}
	return account, place, err
}

// numbersOf returns the phone numbers among the IDs of accounts.
func (r *aliasResolver) numbersOf(ctx context.Context, d sqldb.DB, accounts ...string) ([]string, error) {
	list, args := sqldb.PlaceholderList([]any{r.tenant, r.channel}, accounts, "$%d")
	rs, err := d.Query(ctx, `
		select alias from aliases
		where tenant_id = $1 and channel = $2 and external_id in (`+list+`) and disputed_at is null`, args...)
	ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil {
		return nil, fmt.Errorf("read aliases of account: %w", err)
	}
	ids = slices.DeleteFunc(append(ids, accounts...), func(id string) bool { return !strings.HasPrefix(id, "+") })
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// insertStmts returns the statements that store the new aliases, in order, so that batches do not
// deadlock.
func (r *aliasResolver) insertStmts() []sqldb.Statement {
	slices.SortFunc(r.added, func(a, b accountID) int { return cmp.Compare(a.id, b.id) })
	var stmts []sqldb.Statement
	for _, k := range r.added {
		stmts = append(stmts, sqldb.Statement{
			Query: `
			insert into aliases (tenant_id, channel, alias, external_id, place_id)
			values ($1, $2, $3, $4, $5) on conflict do nothing`,
			Args: []any{r.tenant, r.channel, k.id, k.externalID, k.placeID},
		})
	}
	return stmts
}

// mergeOrDispute makes the account from, whose ID was sent with into, the same account as into. If they
// belong to different customers, or have different phone numbers, from stays an account of its own.
func (r *aliasResolver) mergeOrDispute(ctx context.Context, from, into, place string) error {
	merged := false
	err := r.store.db.InTx(ctx, func(tx sqldb.DB) error {
		identities, err := r.store.lockIdentities(ctx, tx,
			`tenant_id = $1 and channel = $2 and external_id in ($3, $4)`, r.tenant, r.channel, from, into)
		if err != nil {
			return err
		}
		numbers, err := r.numbersOf(ctx, tx, from, into)
		customers := map[string]bool{}
		for _, i := range identities {
			customers[i.CustomerID] = i.CustomerID != ""
		}
		maps.DeleteFunc(customers, func(_ string, owned bool) bool { return !owned })
		if merged = err == nil && len(numbers) < 2 && len(customers) < 2; !merged {
			return err
		}
		return r.merge(ctx, tx, identities, accountID{id: from, externalID: into, placeID: place})
	})
	if err != nil {
		return fmt.Errorf("merge accounts: %w", err)
	}
	if !merged {
		return r.dispute(ctx, accountID{id: from, externalID: from}, into)
	}
	for id, k := range r.known {
		if k.externalID == from {
			r.known[id] = accountID{id: id, externalID: into, placeID: place}
		}
	}
	return nil
}

// merge makes k.id, which was an account, an alias of k.externalID. identities are those of both.
func (r *aliasResolver) merge(ctx context.Context, tx sqldb.DB, identities []lockedIdentity, k accountID) error {
	s := r.store
	for _, i := range identities {
		if i.ExternalID != k.id {
			continue
		}
		kept := i.Identity
		for _, other := range identities {
			if other.ExternalID != k.externalID || other.InstanceID != i.InstanceID {
				continue
			}
			dropped := other.Identity
			if rankIdentity(other.Identity) >= rankIdentity(kept) {
				kept, dropped = other.Identity, kept
			}
			if err := s.absorb(ctx, tx, &kept, dropped); err != nil {
				return err
			}
		}
		if err := r.moveIdentity(ctx, tx, kept, k); err != nil {
			return err
		}
	}
	return tx.Batch(ctx, []sqldb.Statement{
		{
			Query: `
			update aliases set external_id = $4, place_id = $5
			where tenant_id = $1 and channel = $2 and external_id = $3`,
			Args: []any{r.tenant, r.channel, k.id, k.externalID, k.placeID},
		},
		{
			Query: `
			insert into aliases (tenant_id, channel, alias, external_id, place_id) values ($1, $2, $3, $4, $5)
			on conflict (tenant_id, channel, alias) do update set external_id = excluded.external_id,
				place_id = excluded.place_id, disputed_at = null`,
			Args: []any{r.tenant, r.channel, k.id, k.externalID, k.placeID},
		},
		{
			Query: `
			update messages set sender_id = $4 where state = 'new' and sender_id = $3 and conversation_id in (
				select id from conversations where tenant_id = $1 and channel = $2 and place_id = $3)`,
			Args: []any{r.tenant, r.channel, k.id, k.externalID},
		},
	})
}

// moveIdentity changes the external ID of an identity to k.externalID. A live claim code, which is bound to
// the previous ID, is revoked.
func (r *aliasResolver) moveIdentity(ctx context.Context, tx sqldb.DB, i identity.Identity, k accountID) error {
	s := r.store
	if err := s.revokeCodes(ctx, tx, identity.System, "account_merged", `tenant_id = $1 and id = $2`, r.tenant,
		i.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `update identities set external_id = $3, updated_at = $4 where tenant_id = $1 and id = $2`,
		r.tenant, i.ID, k.externalID, s.now()); err != nil {
		return err
	}
	i.ExternalID = k.externalID
	if i.CustomerID != "" && i.InstanceID == "" {
		if _, err := s.mergeUnknown(ctx, tx, i); err != nil {
			return err
		}
	}
	return recordEvents(ctx, tx,
		identityEvent(i, "identity.merged", identity.System, map[string]string{"external_id": k.id}))
}

// rankIdentity orders two identities of one account: the greater one is kept.
func rankIdentity(i identity.Identity) int {
	switch {
	case i.IsVerified():
		return 2
	case i.CustomerID != "":
		return 1
	}
	return 0
}

// dispute records that k.id was sent with account although it belongs to another one. Until both are
// known to be one, messages from k.id are those of an account of its own, without the rights of either.
func (r *aliasResolver) dispute(ctx context.Context, k accountID, account string) error {
	s := r.store
	err := s.db.InTx(ctx, func(tx sqldb.DB) error {
		rs, err := tx.Query(ctx, `
			insert into aliases (tenant_id, channel, alias, external_id, place_id, disputed_at)
			values ($1, $2, $3, $4, $5, $6)
			on conflict (tenant_id, channel, alias) do update set disputed_at = excluded.disputed_at
				where aliases.disputed_at is null
			returning alias`, r.tenant, r.channel, k.id, k.externalID, k.placeID, s.now())
		if _, err := sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil {
			if sqldb.IsNoRows(err) { // recorded before
				return nil
			}
			return err
		}
		rs, err = tx.Query(ctx, `
			select `+identityColumns+` from identities
			where tenant_id = $1 and channel = $2 and external_id in ($3, $4)`, r.tenant, r.channel, k.externalID, account)
		identities, err := sqldb.ScanAll(rs, err, scanIdentity)
		if err != nil {
			return err
		}
		var events []identity.Event
		for _, i := range identities {
			events = append(events, identityEvent(i, "identity.alias_disputed", identity.System,
				map[string]string{"external_id": k.id}))
		}
		return recordEvents(ctx, tx, events...)
	})
	if err != nil {
		return fmt.Errorf("record disputed alias: %w", err)
	}
	k.disputed = true
	r.known[k.id] = k
	return nil
}

// accountOf returns the external ID under which the account with an ID is stored: another one if the ID
// is an alias.
func (s *Store) accountOf(ctx context.Context, d sqldb.DB, tenant, channel, id string) (string, error) {
	if !adapters.TraitsOf(adapters.Channel(channel)).Aliases {
		return id, nil
	}
	rs, err := d.Query(ctx, `
		select external_id from aliases where tenant_id = $1 and channel = $2 and alias = $3 and disputed_at is null`,
		tenant, channel, id)
	account, err := sqldb.ScanOne(rs, err, sqldb.ScanString)
	if sqldb.IsNoRows(err) {
		return id, nil
	}
	return account, err
}

// readAliases sets the aliases of identities of one tenant.
func (s *Store) readAliases(ctx context.Context, d sqldb.DB, identities ...*identity.Identity) error {
	byAddress := map[[2]string][]*identity.Identity{}
	ids := map[string][]string{} // by channel
	for _, i := range identities {
		if adapters.TraitsOf(adapters.Channel(i.Channel)).Aliases {
			ids[i.Channel] = append(ids[i.Channel], i.ExternalID)
			key := [2]string{i.Channel, i.ExternalID}
			byAddress[key] = append(byAddress[key], i)
		}
	}
	for channel, all := range ids {
		for chunk := range slices.Chunk(all, maxListed) {
			list, args := sqldb.PlaceholderList([]any{identities[0].TenantID, channel}, chunk, "$%d")
			rs, err := d.Query(ctx, `
				select external_id, alias from aliases
				where tenant_id = $1 and channel = $2 and external_id in (`+list+`)
					and alias <> external_id and disputed_at is null
				order by alias`, args...)
			_, err = sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (struct{}, error) {
				var externalID, alias string
				err := sc(&externalID, &alias)
				for _, i := range byAddress[[2]string{channel, externalID}] {
					i.Aliases = append(i.Aliases, alias)
				}
				return struct{}{}, err
			})
			if err != nil {
				return fmt.Errorf("read aliases of identities: %w", err)
			}
		}
	}
	return nil
}

// pointers returns pointers to the elements of a slice.
func pointers[T any](s []T) []*T {
	ps := make([]*T, len(s))
	for i := range s {
		ps[i] = &s[i]
	}
	return ps
}
