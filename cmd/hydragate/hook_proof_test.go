//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hydragate/store"
)

const (
	fewestForgeries = 80
	fewestOddities  = 40
	fewestNaive     = 100
)

// TestNobodyForgesAHook sends requests that no provider made to the whole program, on
// both engines. Each is answered with next to nothing and leaves nothing behind: no row
// in any table, no byte that changed, nothing to learn in the log. Then each is sent
// once more as the provider would have made it, and is taken: what refuses everything
// does not pass here.
func TestNobodyForgesAHook(t *testing.T) {
	t.Parallel()
	onHookHouses(t, func(t *testing.T, h *hookHouse) {
		all := some(forgeries(), h)
		before, kept := h.rows(), h.content(t)
		refused, naive := 0, 0
		for i, f := range all {
			p := h.forged(f, 1000+i)
			if h.refuses(t, f, p, before) {
				refused++
			}
			if h.naivelyTaken(p) {
				naive++
			}
		}
		if now := h.content(t); now != kept {
			t.Errorf("the forged requests changed something that is kept:\n%s", cmp.Diff(strings.Split(kept, "\n"), strings.Split(now, "\n")))
		}
		h.toldNothing(t, 1000+len(all))
		genuine := 0
		for i, f := range all {
			if h.takes(t, f.name, draft(f.kind, 1000+i, h.acme).post(), stores(f.kind)) {
				genuine++
			}
		}
		if h.rows() == before {
			t.Error("the count of rows is blind: it does not see what was taken")
		}
		t.Logf("forged requests: %d, accepted: %d (by checks as they are often written: %d); the same made rightly: %d, refused: %d", len(all), len(all)-refused, naive, len(all), len(all)-genuine)
		if naive < fewestNaive*len(all)/len(forgeries()) {
			t.Errorf("checks as they are often written would take only %d of the forgeries: they are too easy", naive)
		}
		if refused < fewestForgeries {
			t.Errorf("only %d forgeries were refused; want at least %d", refused, fewestForgeries)
		}
	})
}

// TestOddGenuineRequestsAreTaken sends requests as providers make them on odd days. Each
// is taken, and stored once however often it comes.
func TestOddGenuineRequestsAreTaken(t *testing.T) {
	t.Parallel()
	onHookHouses(t, func(t *testing.T, h *hookHouse) {
		all := some(oddities(), h)
		taken := 0
		for i, o := range all {
			d := draft(o.kind, 5000+i, h.acme)
			if o.before != nil {
				o.before(h, d)
			}
			p := d.post()
			if o.after != nil {
				o.after(h, p)
			}
			once := o.stores(d.kind)
			if h.takes(t, o.name, p, once) && h.takes(t, o.name+" again", p, 0) {
				taken++
			}
		}
		t.Logf("odd genuine requests: %d, refused or stored twice: %d", len(all), len(all)-taken)
		if taken < fewestOddities {
			t.Errorf("only %d odd requests were taken; want at least %d", taken, fewestOddities)
		}
	})
}

// some gives all cases, and for the second engine every third when time is short: what
// refuses a request is the same on both.
func some[T any](all []T, h *hookHouse) (picked []T) {
	if long() || !store.IsPostgres(h.dsn) {
		return all
	}
	for i := 0; i < len(all); i += 3 {
		picked = append(picked, all[i])
	}
	return picked
}

// forged makes a forgery of message n.
func (h *hookHouse) forged(f forgery, n int) *hookPost {
	d := draft(f.kind, n, h.acme)
	if f.before != nil {
		f.before(h, d)
	}
	p := d.post()
	if f.after != nil {
		f.after(h, p)
	}
	return p
}

// refuses sends a forged request, which must be refused as is documented and change
// nothing.
func (h *hookHouse) refuses(t *testing.T, f forgery, p *hookPost, before string) bool {
	t.Helper()
	name := f.kind + "/" + f.name
	a := h.send(t, h.caller(), p)
	ok := true
	if a.status != f.status {
		t.Errorf("%s: %d %q; want %d", name, a.status, a.body, f.status)
		ok = false
	}
	if !saysNothing(f.kind, a) {
		t.Errorf("%s: the answer is %v %q", name, a.header, a.body)
		ok = false
	}
	for _, secret := range append(h.proofsOf(p.draft), h.secrets...) {
		if strings.Contains(a.text(), secret) {
			t.Errorf("%s: the answer tells a secret, or what would have been right", name)
			ok = false
		}
	}
	if now := h.rows(); now != before {
		t.Errorf("%s: rows before:\n%s\nand after:\n%s", name, before, now)
		ok = false
	}
	return ok
}

// proofsOf gives what would have proven the request that was made a forgery of.
func (h *hookHouse) proofsOf(d *hookDraft) (all []string) {
	for _, seat := range []hookSeat{h.acme, h.neighbour} {
		p := draft(d.kind, d.n, seat).post()
		all = append(all, strings.TrimPrefix(p.get(p.proof()), "v0="))
	}
	return append(all, markOf(d.n))
}

// saysNothing reports whether an answer is empty, or the one empty answer that Twilio
// understands. What is no HTTP at all is told so by the server, in words of its own.
func saysNothing(kind string, a hookAnswer) bool {
	channel, _ := channelOf(kind)
	switch {
	case a.status == 400 && regexp.MustCompile(`^400 Bad Request(: [a-z -]+| Header|: [a-zA-Z -]+)?$`).MatchString(a.body):
		return true
	case a.status == 501 && (a.body == "501 Not Implemented: unsupported transfer encoding" || a.body == "Unsupported transfer encoding"):
		return true
	case a.status == 404 && a.body == `{"detail":"Not Found"}`: // a path that is none of the hooks'
		return true
	case channel == "sms" || channel == "whatsapp":
		const nothing = `<?xml version="1.0" encoding="UTF-8"?><Response/>`
		return (a.body == nothing || a.body == "") && strings.HasPrefix(a.header.Get("Content-Type"), "text/xml")
	}
	return a.body == ""
}

// takes sends a genuine request, which must bring this many messages.
func (h *hookHouse) takes(t *testing.T, name string, p *hookPost, messages int) bool {
	t.Helper()
	was := h.messages()
	a := h.send(t, h.caller(), p)
	if a.status != 200 {
		t.Errorf("%s, genuine: %d %q", name, a.status, a.body)
		return false
	}
	if got := h.messages() - was; got != messages {
		t.Errorf("%s, genuine: %d messages are stored; want %d", name, got, messages)
		return false
	}
	return true
}

// content gives all that is kept, in the database and beside it, but for what the program
// writes down of its own doings.
func (h *hookHouse) content(t *testing.T) string {
	t.Helper()
	all, err := files(h.spool)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range h.tableNames() {
		columns := "*"
		switch table {
		case "endpoints":
			columns = "id, mode, address, settings, last_event_at"
		case "api_keys":
			columns = "id, scopes, expires_at, revoked_at"
		}
		rows, err := query(h.dsn, "select "+columns+" from "+table)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(rows)
		all = fmt.Appendln(all, table, rows)
	}
	return string(all)
}

var longHex = regexp.MustCompile(`[0-9a-fA-F]{64}`)

// toldNothing looks through the log, at its most talkative, for what came in and for
// what would have been right. The search is not blind: it finds what it must.
func (h *hookHouse) toldNothing(t *testing.T, until int) {
	t.Helper()
	log := h.log.String()
	if !strings.Contains(log, "hook refused") {
		t.Error("the search is blind: not one refusal is in the log")
	}
	if planted := log + slackSignature("x", "1", "y"); !longHex.MatchString(planted) {
		t.Error("the search is blind: a planted signature is not found")
	}
	if at := longHex.FindString(log); at != "" {
		t.Errorf("the log holds %q", at)
	}
	for _, word := range append([]string{"canary", "first_name", "MessageSid", "v0=", "evil.example"}, h.secrets...) {
		if strings.Contains(log, word) {
			t.Errorf("the log holds %q, which was in a request or is a secret", word)
		}
	}
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}
