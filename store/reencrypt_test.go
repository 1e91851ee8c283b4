package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// withKeys returns the fixture with other master keys.
func (f *fixture) withKeys(keys ...string) *fixture {
	f.t.Helper()
	s := &Store{db: f.db, ingestDB: f.ingestDB, dialect: f.dialect, keys: mustRing(f.t, keys...), now: f.now}
	return &fixture{s, f.t, f.tenant, f.instance}
}

// forEachKeyFixture runs test on each engine with a fixture whose only master key is k1.
func forEachKeyFixture(t *testing.T, test func(t *testing.T, f *fixture, k1 string)) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		k1 := keyring.GenerateKey("k1")
		mustExec(t, f.Store, `delete from instances`)
		mustExec(t, f.Store, `delete from master_keys`)
		f = newFixture(t, f.withKeys(k1).Store)
		must(t, f.registerKeys(t.Context()))
		test(t, f, k1)
	})
}

// fillSealedColumns stores values in all columns with encrypted values, n in those of messages.
func (f *fixture) fillSealedColumns(n int) {
	f.t.Helper()
	t := f.t
	ep := mustSaveEndpoint(t, f.Store, gateway.EndpointState{Endpoint: endpoint(f.tenant, f.instance)}, timeZero)
	if _, err := f.RotateInstanceSecret(t.Context(), gateway.SecretRotation{
		TenantID: f.tenant, InstanceID: f.instance, Kind: gateway.WebhookSecret,
		Secret: fmt.Sprint("whsec_", newID()), GracePeriod: time.Hour,
	}, "key:k"); err != nil {
		t.Fatal(err)
	}
	var messages []gateway.IncomingMessage
	for i := range n {
		a := f.arrival(fmt.Sprint(i), newID(), "/claim ******")
		a.Secret = &gateway.Secret{Text: fmt.Sprint("/claim code ", i)}
		messages = append(messages, a)
	}
	f.insertMessages(messages...)
	for _, l := range f.leaseAllQueues(gateway.InboxQueue) {
		f.apply(gateway.Commit{Lease: l, Release: true, Next: time.Now(), Replies: []gateway.OutboxRow{{
			ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance, Channel: ep.Channel,
			Recipient: "1",
			Chat:      adapters.Chat{ID: "chat " + l.ConversationID}, Text: "hello", Cause: "command",
		}}})
	}
	for i := range n {
		k := gateway.IdempotencyKey{TenantID: f.tenant, Principal: newID(), Key: fmt.Sprint("k", i), Fingerprint: "f"}
		reserveKey(t, f.Store, k, false)
		saveResponse(t, f.Store, k, "an answer")
	}
}

func (f *fixture) leaseAllQueues(kind gateway.QueueKind) (all []gateway.Lease) {
	for {
		ls := f.lease(kind, "test")
		if len(ls) == 0 {
			return all
		}
		all = append(all, ls...)
	}
}

// countPrefixed counts the values with a prefix in all text columns that the catalog of the database
// lists.
func (f *fixture) countPrefixed(prefix string) map[string]int {
	f.t.Helper()
	catalog := `select m.name, p.name from sqlite_master m join pragma_table_info(m.name) p on 1 where m.type = 'table'
		order by 1, 2`
	if f.Engine() == "postgres" {
		catalog = `select cast(table_name as text), cast(column_name as text) from information_schema.columns
			where table_schema = 'public' and data_type = 'text' order by 1, 2`
	}
	rs, err := f.db.Query(f.t.Context(), catalog)
	columns, err := sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (c [2]string, err error) { return c, sc(&c[0], &c[1]) })
	if err != nil {
		f.t.Fatal(err)
	}
	found := map[string]int{}
	for _, c := range columns {
		n := queryText(
			f.t,
			f.Store,
			`select cast(count(*) as text) from "`+c[0]+`" where substr(cast("`+c[1]+`" as text), 1, `+fmt.Sprint(
				len(prefix),
			)+`) = '`+prefix+`'`,
		)
		if n != "0" {
			count, err := strconv.Atoi(n)
			if err != nil {
				f.t.Fatal(err)
			}
			found[c[0]+"."+c[1]] = count
		}
	}
	return found
}

func sumCounts(found map[string]int) (n int) {
	for _, count := range found {
		n += count
	}
	return n
}

func (f *fixture) reencryptAll() (r ReencryptProgress) {
	f.t.Helper()
	err := f.Reencrypt(f.t.Context(), func(p ReencryptProgress) {
		r.Reencrypted, r.Missing, r.Corrupt = r.Reencrypted+p.Reencrypted, r.Missing+p.Missing, r.Corrupt+p.Corrupt
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// TestReencrypt_AllColumns tests that no column has a value encrypted with the old key afterwards.
func TestReencrypt_AllColumns(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		f.fillSealedColumns(reencryptBatch + 30)
		want := f.countPrefixed(keyring.SealedPrefix("k1"))
		if len(want) != len(sealedColumns()) {
			t.Fatalf("encrypted columns = %v, want %v", want, sealedColumns())
		}
		k2 := keyring.GenerateKey("k2")
		both := f.withKeys(k2, k1)
		if got := both.keyUsageOf("k1"); got.Values() != sumCounts(want) || !got.Available || got.Primary || got.IsUnused() {
			t.Errorf("KeyUsage before = %+v, want %v", got, want)
		}
		if r := both.reencryptAll(); r.Reencrypted != sumCounts(want) || r.Corrupt+r.Missing != 0 {
			t.Errorf("Reencrypt() = %+v, want %d values", r, sumCounts(want))
		}
		if left := f.countPrefixed(keyring.SealedPrefix("k1")); len(left) != 0 {
			t.Errorf("values encrypted with the old key = %v, want none", left)
		}
		if r := both.reencryptAll(); r != (ReencryptProgress{}) {
			t.Errorf("second Reencrypt() = %+v, want nothing", r)
		}
		if got := both.keyUsageOf("k1"); !got.IsUnused() {
			t.Errorf("KeyUsage after = %+v, want unused", got)
		}
		// A value erased under the old key is found by its pseudonym without that key.
		erased := f.newPseudonym(f.tenant, "sms", "+61400111222")
		if ps, err := f.withKeys(k2).pseudonyms(t.Context(), f.tenant, "sms", "+61400111222"); err != nil ||
			!slices.Contains(ps, erased) {
			t.Errorf("pseudonyms() = %v, %v, want %s among them", ps, err, erased)
		}
		f.withKeys(k2).checkAllDecrypt(reencryptBatch + 30)
	})
}

// checkAllDecrypt calls all methods that decrypt values.
func (f *fixture) checkAllDecrypt(n int) {
	f.t.Helper()
	t := f.t
	ep, err := f.WebhookEndpoint(t.Context(), f.instance, adapters.SMS)
	if err != nil || ep.Credentials[adapters.AuthToken] != "token one" {
		t.Errorf("WebhookEndpoint(): wrong credentials, %v", err)
	}
	if secrets, err := f.SigningSecrets(t.Context(), f.tenant, f.instance); err != nil || len(secrets) != 2 {
		t.Errorf("SigningSecrets() = %d secrets, %v, want 2", len(secrets), err)
	}
	texts := 0
	for _, l := range f.leaseAllQueues(gateway.InboxQueue) {
		for _, in := range f.pending(l) {
			if in.Err != nil || !strings.HasPrefix(in.Message.Text, "/claim code ") {
				t.Errorf("pending message: %v", in.Err)
			}
			texts++
		}
	}
	chats := 0
	for _, l := range f.leaseAllQueues(gateway.OutboxQueue) {
		rows, _, err := f.PendingReplies(t.Context(), l)
		if err != nil || len(rows) != 1 || rows[0].Err != nil || rows[0].Chat.ID != "chat "+l.ConversationID {
			t.Errorf("PendingReplies() = %v, %v", rows, err)
		}
		chats++
	}
	if texts != n || chats != n {
		t.Errorf("decrypted %d messages and %d chats, want %d", texts, chats, n)
	}
	if ps, err := f.pseudonyms(t.Context(), f.tenant, "sms", "+61400111222"); err != nil || len(ps) < 1 {
		t.Errorf("pseudonyms() = %v, %v", ps, err)
	}
}

// TestReencrypt_ConcurrentWriters runs Reencrypt twice concurrently while the same rows are written
// with the old and the new first key. No write may be lost.
func TestReencrypt_ConcurrentWriters(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		f.fillSealedColumns(40)
		k2 := keyring.GenerateKey("k2")
		before, after := f.withKeys(k1, k2), f.withKeys(k2, k1)
		ctx, stop := context.WithCancel(t.Context())
		var writing, reencrypting sync.WaitGroup
		lastToken := ""
		writing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				ep := endpoint(f.tenant, f.instance)
				ep.Credentials[adapters.AuthToken] = fmt.Sprint("token ", n)
				if _, err := []*fixture{before, after}[n%2].SaveEndpoint(t.Context(),
					gateway.EndpointState{Endpoint: ep, Status: gateway.EndpointActive}, timeZero, "key:k"); err != nil {
					t.Error(err)
				}
				lastToken = ep.Credentials[adapters.AuthToken]
			}
		})
		for range 2 {
			reencrypting.Go(func() {
				for range 10 {
					if err := after.Reencrypt(t.Context(), func(ReencryptProgress) {}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		reencrypting.Wait()
		stop()
		writing.Wait()
		ep, err := before.WebhookEndpoint(t.Context(), f.instance, adapters.SMS)
		if err != nil || ep.Credentials[adapters.AuthToken] != lastToken {
			t.Errorf("the last write was lost: %v", err)
		}
		after.reencryptAll()
		if left := f.countPrefixed(keyring.SealedPrefix("k1")); len(left) != 0 {
			t.Errorf("values encrypted with the old key = %v, want none", left)
		}
	})
}

// TestReencrypt_ReportsUndecryptable tests that a moved value and one with a missing key are counted
// and not changed.
func TestReencrypt_ReportsUndecryptable(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		f.fillSealedColumns(2)
		k2, k0 := keyring.GenerateKey("k2"), keyring.GenerateKey("k0")
		both := f.withKeys(k2, k1)
		ids := queryText(t, f.Store, `select min(cast(id as text)) from outbox`)
		foreign := f.withKeys(k0).sealedChat(ids)
		mustExec(t, f.Store, `update outbox set place = $1 where id = $2`, foreign, ids)
		mustExec(t, f.Store, `update messages set sealed = (select min(m.sealed) from messages m)`)
		r := both.reencryptAll()
		if r.Missing != 1 || r.Corrupt != 1 {
			t.Errorf("Reencrypt() = %+v, want one missing and one corrupt", r)
		}
		if got := both.keyUsageOf("k0"); got.Available || got.Sealed["outbox.place"] != 1 {
			t.Errorf("KeyUsage of the missing key = %+v", got)
		}
		if got := both.keyUsageOf("k1"); got.Sealed["messages.sealed"] != 1 {
			t.Errorf("KeyUsage of the corrupt value = %+v", got)
		}
		if got := queryText(t, f.Store, `select place from outbox where id = $1`, ids); got != foreign {
			t.Error("a value with a missing key was changed")
		}
		// With the missing key, the value is encrypted again.
		if f.withKeys(k2, k1, k0).reencryptAll(); both.keyUsageOf("k0").Values() != 0 {
			t.Errorf("KeyUsage = %+v, want no values", both.keyUsageOf("k0"))
		}
	})
}

func (f *fixture) sealedChat(id string) string {
	sealed, err := f.sealChat(f.tenant, id, adapters.Chat{ID: "elsewhere"})
	if err != nil {
		f.t.Fatal(err)
	}
	return sealed
}
