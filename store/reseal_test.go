package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi"
)

// under is the same database with other master keys.
func (h house) under(keys ...string) house {
	h.t.Helper()
	return house{&Store{db: h.db, front: h.front, d: h.d, keys: ring(h.t, keys...), now: h.now}, h.t, h.instance}
}

// onKeys runs test with a house whose key is k1, and that one.
func onKeys(t *testing.T, test func(t *testing.T, h house, k1 string)) {
	onBoth(t, func(t *testing.T, h house) {
		k1 := NewMasterKey("k1")
		mustExec(t, h.Store, `delete from instances`)
		mustExec(t, h.Store, `delete from master_keys`)
		h = h.under(k1)
		if err := h.meetKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, newHouse(t, h.Store), k1)
	})
}

// fill puts a value into every column that holds sealed ones.
func (h house) fill(n int) {
	h.t.Helper()
	t := h.t
	seat := saveSeat(t, h.Store, gateway.Seat{Endpoint: endpoint(tenant, h.instance)}, timeZero)
	if _, err := h.RotateInstanceSecret(t.Context(), tenant, h.instance, gateway.WebhookSecret, fmt.Sprint("whsec_", newID()), time.Hour, "key:k"); err != nil {
		t.Fatal(err)
	}
	var as []gateway.Arrival
	for i := range n {
		a := h.arrival(fmt.Sprint(i), newID(), "/claim ******")
		a.Secret = &gateway.Secret{Text: fmt.Sprint("/claim code ", i)}
		as = append(as, a)
	}
	h.take(as...)
	for _, l := range h.leaseAll(gateway.InboxLane) {
		h.settle(gateway.Settlement{Lease: l, Release: true, Next: time.Now(), Replies: []gateway.OutboxRow{{
			ID: newID(), TenantID: tenant, ConversationID: l.ConversationID, InstanceID: h.instance, Channel: seat.Channel, Recipient: "1",
			Place: adapters.Place{ID: "place " + l.ConversationID}, Text: "hello", Cause: "command",
		}}})
	}
	for i := range n {
		k := httpapi.IdempotencyKey{TenantID: tenant, Principal: newID(), Key: fmt.Sprint("k", i), Fingerprint: "f"}
		remember(t, h.Store, k, false)
		answered(t, h.Store, k, "an answer")
	}
}

func (h house) leaseAll(kind gateway.LaneKind) (all []gateway.Lease) {
	for {
		ls := h.lease(kind, "test")
		if len(ls) == 0 {
			return all
		}
		all = append(all, ls...)
	}
}

// textsWith finds, in every column of every table, the values that begin like this: by
// the database's own word on what there is.
func (h house) textsWith(beginning string) map[string]int {
	h.t.Helper()
	catalog := `select m.name, p.name from sqlite_master m join pragma_table_info(m.name) p on 1 where m.type = 'table' order by 1, 2`
	if h.Engine() == "postgres" {
		catalog = `select cast(table_name as text), cast(column_name as text) from information_schema.columns where table_schema = 'public' and data_type = 'text' order by 1, 2`
	}
	rs, err := h.db.Query(h.t.Context(), catalog)
	columns, err := all(rs, err, func(sc scan) (c [2]string, err error) { return c, sc(&c[0], &c[1]) })
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]int{}
	for _, c := range columns {
		n := queryText(h.t, h.Store, `select cast(count(*) as text) from "`+c[0]+`" where substr(cast("`+c[1]+`" as text), 1, `+fmt.Sprint(len(beginning))+`) = '`+beginning+`'`)
		if n != "0" {
			count, err := strconv.Atoi(n)
			if err != nil {
				h.t.Fatal(err)
			}
			found[c[0]+"."+c[1]] = count
		}
	}
	return found
}

func total(found map[string]int) (n int) {
	for _, some := range found {
		n += some
	}
	return n
}

func (h house) reseal() (r Resealing) {
	h.t.Helper()
	err := h.Reseal(h.t.Context(), func(one Resealing) {
		r.Resealed, r.Missing, r.Broken = r.Resealed+one.Resealed, r.Missing+one.Missing, r.Broken+one.Broken
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h house) hanging(key string) Hanging {
	h.t.Helper()
	hs, err := h.Hanging(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if i := slices.IndexFunc(hs, func(x Hanging) bool { return x.Key == key }); i >= 0 {
		return hs[i]
	}
	return Hanging{Key: key}
}

// TestInUseCountsWhatIsMissedAtOnce counts, of what hangs on a key, what a gateway opens
// while it works: not what is done with.
func TestInUseCountsWhatIsMissedAtOnce(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		h.fill(3)
		mustExec(t, h.Store, `update messages set state = 'done' where cast(id as text) = (select min(cast(id as text)) from messages)`)
		mustExec(t, h.Store, `update outbox set status = 'sent' where cast(id as text) = (select min(cast(id as text)) from outbox)`)
		inUse, err := h.under(NewMasterKey("k2")).InUse(t.Context())
		want := []Hanging{
			{Key: "k2", Here: true, First: true, Sealed: map[string]int{}},
			{Key: "k1", Sealed: map[string]int{"endpoints.credentials": 1, "instances.webhook_secret": 1, "retired_secrets.sealed": 1, "messages.sealed": 2, "outbox.place": 2}},
		}
		if err != nil || fmt.Sprint(inUse) != fmt.Sprint(want) {
			t.Errorf("%+v, %v; want %+v", inUse, err, want)
		}
	})
}

// TestResealReachesEverySealedValue seals anew, and looks in every column of every
// table for what is left.
func TestResealReachesEverySealedValue(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		h.fill(resealAtOnce + 30)
		want := h.textsWith(sealedBy("k1"))
		if len(want) != len(sealedColumns()) {
			t.Fatalf("sealed are %v; reseal knows %v", want, sealedColumns())
		}
		k2 := NewMasterKey("k2")
		both := h.under(k2, k1)
		if got := both.hanging("k1"); got.Values() != total(want) || !got.Here || got.First || got.Free() {
			t.Errorf("before: %+v; want %v", got, want)
		}
		if r := both.reseal(); r.Resealed != total(want) || r.Broken+r.Missing != 0 {
			t.Errorf("%+v; want %d", r, total(want))
		}
		if left := h.textsWith(sealedBy("k1")); len(left) != 0 {
			t.Errorf("left on the old key: %v", left)
		}
		if r := both.reseal(); r != (Resealing{}) {
			t.Errorf("again: %+v", r)
		}
		if got := both.hanging("k1"); !got.Free() {
			t.Errorf("after: %+v", got)
		}
		// What was erased under the old key is found by what it was when the key has gone.
		erased := h.pseudonymOf(tenant, "sms", "+61400111222")
		if ps, err := h.under(k2).pseudonymsOf(t.Context(), tenant, "sms", "+61400111222"); err != nil || !slices.Contains(ps, erased) {
			t.Errorf("pseudonyms %v, %v; want %s among them", ps, err, erased)
		}
		h.under(k2).everythingOpens(resealAtOnce + 30)
	})
}

// everythingOpens reads by every method that opens something.
func (h house) everythingOpens(n int) {
	h.t.Helper()
	t := h.t
	ep, err := h.EndpointForHook(t.Context(), h.instance, adapters.SMS)
	if err != nil || ep.Credentials[adapters.AuthToken] != "token one" {
		t.Errorf("credentials: %v", err)
	}
	if secrets, err := h.SigningSecrets(t.Context(), tenant, h.instance); err != nil || len(secrets) != 2 {
		t.Errorf("%d signing secrets, %v", len(secrets), err)
	}
	texts := 0
	for _, l := range h.leaseAll(gateway.InboxLane) {
		for _, in := range h.inbound(l) {
			if in.Fault != nil || !strings.HasPrefix(in.Message.Text, "/claim code ") {
				t.Errorf("message: %v", in.Fault)
			}
			texts++
		}
	}
	places := 0
	for _, l := range h.leaseAll(gateway.OutboxLane) {
		rows, _, err := h.Outgoing(t.Context(), l)
		if err != nil || len(rows) != 1 || rows[0].Fault != nil || rows[0].Place.ID != "place "+l.ConversationID {
			t.Errorf("place: %v, %v", rows, err)
		}
		places++
	}
	if texts != n || places != n {
		t.Errorf("%d texts and %d places; want %d", texts, places, n)
	}
	if ps, err := h.pseudonymsOf(t.Context(), tenant, "sms", "+61400111222"); err != nil || len(ps) < 1 {
		t.Errorf("pseudonyms: %v, %v", ps, err)
	}
}

// TestResealBesideWriters seals anew, twice at once, while others change the same rows
// with the old key first and with the new. Nothing that they wrote is undone.
func TestResealBesideWriters(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		h.fill(40)
		k2 := NewMasterKey("k2")
		before, after := h.under(k1, k2), h.under(k2, k1)
		ctx, stop := context.WithCancel(t.Context())
		var writing, sealing sync.WaitGroup
		lastToken := ""
		writing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				ep := endpoint(tenant, h.instance)
				ep.Credentials[adapters.AuthToken] = fmt.Sprint("token ", n)
				if _, err := []house{before, after}[n%2].SaveSeat(t.Context(), gateway.Seat{Endpoint: ep, Status: gateway.Active}, timeZero, "key:k"); err != nil {
					t.Error(err)
				}
				lastToken = ep.Credentials[adapters.AuthToken]
			}
		})
		for range 2 {
			sealing.Go(func() {
				for range 10 {
					if err := after.Reseal(t.Context(), func(Resealing) {}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		sealing.Wait()
		stop()
		writing.Wait()
		ep, err := before.EndpointForHook(t.Context(), h.instance, adapters.SMS)
		if err != nil || ep.Credentials[adapters.AuthToken] != lastToken {
			t.Errorf("the last token was lost: %v", err)
		}
		after.reseal()
		if left := h.textsWith(sealedBy("k1")); len(left) != 0 {
			t.Errorf("left on the old key: %v", left)
		}
	})
}

// TestWhatCannotBeSealedAnewIsTold: a value that was moved, and one whose key is not
// there, stay as they are and are counted.
func TestWhatCannotBeSealedAnewIsTold(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		h.fill(2)
		k2, k0 := NewMasterKey("k2"), NewMasterKey("k0")
		both := h.under(k2, k1)
		ids := queryText(t, h.Store, `select min(cast(id as text)) from outbox`)
		foreign := h.under(k0).sealedPlace(ids)
		mustExec(t, h.Store, `update outbox set place = $1 where id = $2`, foreign, ids)
		mustExec(t, h.Store, `update messages set sealed = (select min(m.sealed) from messages m)`)
		r := both.reseal()
		if r.Missing != 1 || r.Broken != 1 {
			t.Errorf("%+v; want one of each", r)
		}
		if got := both.hanging("k0"); got.Here || got.Sealed["outbox.place"] != 1 {
			t.Errorf("a key that is missing: %+v", got)
		}
		if got := both.hanging("k1"); got.Sealed["messages.sealed"] != 1 {
			t.Errorf("what does not open: %+v", got)
		}
		if got := queryText(t, h.Store, `select place from outbox where id = $1`, ids); got != foreign {
			t.Error("a value whose key is missing was changed")
		}
		// With the key given everything is well again.
		if h.under(k2, k1, k0).reseal(); both.hanging("k0").Values() != 0 {
			t.Errorf("%+v", both.hanging("k0"))
		}
	})
}

func (h house) sealedPlace(id string) string {
	sealed, err := h.sealPlace(tenant, id, adapters.Place{ID: "elsewhere"})
	if err != nil {
		h.t.Fatal(err)
	}
	return sealed
}

// TestCodesHangOnTheirKey: a key stays needed while a proof that it made is of use.
func TestCodesHangOnTheirKey(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		customer, id := h.steve("12345")
		_, expires, err := h.Issue(t.Context(), tenant, customer, id, "key:k")
		if err != nil {
			t.Fatal(err)
		}
		k2 := NewMasterKey("k2")
		both := h.under(k2, k1)
		both.reseal()
		if got := both.hanging("k1"); got.Codes != 1 || got.Free() || !got.Until.Equal(expires.Add(claim.Grace)) {
			t.Errorf("%+v; want one code until %v", got, expires.Add(claim.Grace))
		}
		a := claim.Attempt{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: "12345", IdentityID: id, MessageID: newID(), ReceivedAt: h.now()}
		if _, err := both.State(t.Context(), a); err != nil {
			t.Errorf("with both keys: %v", err)
		}
		if _, err := h.under(k2).State(t.Context(), a); !errors.Is(err, gateway.ErrNoMasterKey) {
			t.Errorf("without its key a right code would be called wrong: %v", err)
		}
		mustExec(t, h.Store, `update identities set claim_expires_at = `+h.d.in(-int(claim.Grace/time.Second)-1)+` where id = $1`, id)
		if got := both.hanging("k1"); !got.Free() {
			t.Errorf("when its time has passed: %+v", got)
		}
		if st, err := h.under(k2).State(t.Context(), a); err != nil || st.Fence == claim.NoCode {
			t.Errorf("when its time has passed: %v, %v", st.Fence, err)
		}
	})
}

// TestInvitesHangOnTheirKey: so it is with invites, which live longer.
func TestInvitesHangOnTheirKey(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		customer, _ := h.steve("12345")
		i, err := h.IssueInvite(t.Context(), claim.Invite{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", CustomerID: customer}, "WDJBMJBCDFGH", "key:k")
		if err != nil {
			t.Fatal(err)
		}
		k2 := NewMasterKey("k2")
		both := h.under(k2, k1)
		both.reseal()
		if got := both.hanging("k1"); got.Codes != 1 || got.Free() || !got.Until.Equal(i.ExpiresAt.Add(claim.Grace)) {
			t.Errorf("%+v; want one invite until %v", got, i.ExpiresAt.Add(claim.Grace))
		}
		opening := claim.Attempt{TenantID: tenant, InstanceID: h.instance, Channel: "telegram", Code: "WDJBMJBCDFGH", ReceivedAt: h.now()}
		for name, want := range map[string]bool{"with both keys": true, "without its key": false} {
			ring := both
			if !want {
				ring = h.under(k2)
			}
			if known, err := ring.KnowsInvite(t.Context(), opening); err != nil || known != want {
				t.Errorf("%s it is known: %v, %v", name, known, err)
			}
		}
		if err := h.RevokeInvite(t.Context(), tenant, customer, "", i.ID, "key:k"); err != nil || !both.hanging("k1").Free() {
			t.Errorf("revoked: %+v, %v", both.hanging("k1"), err)
		}
	})
}

// TestAKeyIsWhatItsIDSays: a ring with another key under a known id opens no store.
func TestAKeyIsWhatItsIDSays(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, k1 string) {
		for name, c := range map[string]struct {
			keys []string
			ok   bool
		}{
			"TheSame":          {[]string{k1}, true},
			"TheSameAndNewer":  {[]string{NewMasterKey("k9"), k1}, true},
			"AnotherOne":       {[]string{NewMasterKey("k1")}, false},
			"AnotherOneBehind": {[]string{NewMasterKey("k8"), NewMasterKey("k1")}, false},
		} {
			err := h.under(c.keys...).meetKeys(t.Context())
			var wrong *WrongKey
			if c.ok && err != nil || !c.ok && (!errors.As(err, &wrong) || wrong.ID != "k1") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestMovedCredentialsAreNotUsed swaps what is sealed by SQL, between rows, columns and
// tenants: whoever asks for it gets an error and nothing else.
func TestMovedCredentialsAreNotUsed(t *testing.T) {
	onKeys(t, func(t *testing.T, h house, _ string) {
		mine := saveSeat(t, h.Store, gateway.Seat{Endpoint: endpoint(tenant, h.instance)}, timeZero)
		theirs := endpoint(newTenant(t, h.Store), "")
		theirs.InstanceID = newInstance(t, h.Store, theirs.TenantID).ID
		other := saveSeat(t, h.Store, gateway.Seat{Endpoint: theirs}, timeZero)
		sibling := endpoint(tenant, newInstance(t, h.Store, tenant).ID)
		second := saveSeat(t, h.Store, gateway.Seat{Endpoint: sibling}, timeZero)
		sealed := func(id string) string {
			return queryText(t, h.Store, `select credentials from endpoints where id = $1`, id)
		}
		own := sealed(mine.ID)
		for name, value := range map[string]string{
			"AnotherRow": sealed(second.ID), "AnotherTenant": sealed(other.ID), "Changed": own[:len(own)-3] + "AAA", "Nothing": "",
			"AnotherColumn": queryText(t, h.Store, `select webhook_secret from instances where id = $1`, h.instance),
		} {
			mustExec(t, h.Store, `update endpoints set credentials = $1 where id = $2`, value, mine.ID)
			ep, err := h.EndpointForHook(t.Context(), h.instance, adapters.SMS)
			if !errors.Is(err, ErrSealed) || ep.Credentials != nil {
				t.Errorf("%s: %v", name, err)
			}
			if seat, err := h.Seat(t.Context(), tenant, h.instance, adapters.SMS); err != nil || seat.Status != gateway.Faulty || seat.ErrorMessage != unopened || seat.Fault == nil {
				t.Errorf("%s: staff see %v %q, %v", name, seat.Status, seat.ErrorMessage, err)
			}
		}
		mustExec(t, h.Store, `update instances set webhook_secret = $1 where id = $2`, own, h.instance)
		if secrets, err := h.SigningSecrets(t.Context(), tenant, h.instance); !errors.Is(err, ErrSealed) || secrets != nil {
			t.Errorf("credentials as a signing secret: %v", err)
		}
		mustExec(t, h.Store, `update endpoints set credentials = $1 where id = $2`, own, mine.ID)
		if _, err := h.EndpointForHook(t.Context(), h.instance, adapters.SMS); err != nil {
			t.Errorf("put back: %v", err)
		}
	})
}
