package claims

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
)

// A dresser writes random texts around the letters of a code, which are no proper claims.
type dresser struct {
	*rand.Rand
	words []string
	live  map[string]bool // letters that texts must not contain by chance
	seen  map[string]bool // letters in texts, of which copies may remain in the files of a database
}

func (d *dresser) pick(from ...string) string { return from[d.IntN(len(from))] }

// letters returns the letters of a code in one of the forms in which people write and paste them.
func (d *dresser) letters(code string) string {
	n := 1 + d.IntN(len(code)-1)
	switch d.IntN(10) {
	case 0:
		return claim.Group(code)
	case 1:
		return strings.ToLower(code)
	case 2:
		gap := d.pick(" ", "-", ".", "\n", " - ", "/", "·", "_", "\u200b", "👍", ", ", "\t", "...", "*", "️⃣ ")
		return strings.Join(strings.Split(code, ""), gap)
	case 3:
		return claim.Spell(code)
	case 4:
		return code[:n] + d.pick(" ", "-", "–", "*", "_", ",", "|", "<b>", "\u00a0", "\n", "</b> <i>", "&nbsp;") + code[n:]
	case 5:
		return strings.NewReplacer("L", "1", "S", "5", "B", "8", "Z", "2", "G", "6").Replace(claim.Group(code))
	case 6:
		return d.pick("claim", "claim_", "start=claim_", "/claim ", "claim%20", "CLAIM:", "claim <@U023BECGF> ") + code
	case 7:
		return "1. " + code[:n] + d.pick(" ", "\n", "; ") + "2. " + code[n:]
	case 8:
		return strings.Map(func(r rune) rune { return '𝐀' + r - 'A' }, code)
	}
	return code
}

// dress returns a text with the letters of a code, and the part of it that holds them.
func (d *dresser) dress(code string) (text, part string) {
	for {
		part = fmt.Sprintf(
			d.pick("%s", "*%s*", "`%s`", "\"%s\"", "(%s)", "<%s>", "_%s_", "~%s~", "[%s](https://example.com)", "\n%s\n",
				"```\n%s\n```", "> %s", "<b>%s</b>", "||%s||", ":key: %s :key:", "👉%s👈", "#%s", "code=%s&x=1",
				"https://t.me/acme_bot?start=claim_%s", "tg://resolve?domain=acme_bot&start=claim_%s",
				"<https://t.me/acme_bot?start=claim_%s|open>", "sms:+14155550100?body=claim%%20%s",
				"https://wa.me/14155550100?text=%%2Fclaim%%20%s"),
			d.letters(code),
		)
		before := d.pick("", "1. ", "2) ", "- ", "• ", "3️⃣ ", "> ", "👋 ", ":wave: ", "@acme_bot ", "<@U023BECGF> ", "“") +
			d.pick("", "hello ", "my code is ", "please claim ", "hi /claim ")
		after := d.pick("", " ", ", ", "! ", "\n", "; ", "” ", "🙏 ")
		text = before + d.sentence(d.IntN(4)) + d.pick(" ", "\n", ": ") + part + after + d.sentence(d.IntN(3))
		if _, isClaim := claim.Parse(text, harness.BotUsername); isClaim {
			continue
		}
		found := claim.Scan(text)
		if !slices.ContainsFunc(found, func(c claim.Candidate) bool { return c.Code != code && d.live[c.Code] }) {
			for _, c := range found {
				d.seen[c.Code] = true
			}
			return text, part
		}
	}
}

// sentence returns n random words.
func (d *dresser) sentence(n int) string { return sentence(d.Rand, d.words, n) }

// clashes reports whether letters contain those of a live code or invite, or are a part of them.
func (d *dresser) clashes(letters string) bool {
	for l := range d.live {
		if strings.Contains(letters, l) || strings.Contains(l, letters) {
			return true
		}
	}
	return false
}

// deadCode returns letters that are neither a live code nor a live invite, and contain none.
func (d *dresser) deadCode() string {
	for {
		if code := d.pick(claim.NewCode(), claim.NewInviteCode()); !d.clashes(code) {
			return code
		}
	}
}

// A dressedMessage is a message that was sent, and the part of it that holds a code. The part is empty
// if the message is a claim.
type dressedMessage struct {
	*adapters.Message
	channel adapters.Channel
	part    string
	live    bool // the code
}

// message returns a message of a sender with the letters of a code in a text, a caption, an edit or the
// name of a file, in one of some private chats or in a group.
func (d *dresser) message(channel adapters.Channel, sender, code string, group, live bool) dressedMessage {
	text, part := d.dress(code)
	m := adapters.Message{
		Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: sender, Name: "Steve"},
		Chat: adapters.Chat{ID: fmt.Sprint(sender, "-", d.IntN(4))},
	}
	if group {
		m.Chat = adapters.Chat{ID: "-100" + sender, Group: true}
	}
	switch d.IntN(8) {
	case 0:
		m.Kind, m.Media = adapters.Media, []adapters.Attachment{{Kind: "image", Ref: "r"}}
	case 1:
		m.Kind = adapters.Edit
	case 2:
		m.Text, m.Media = "see the file", []adapters.Attachment{{Kind: "file", Ref: "r", Name: text}}
	}
	return dressedMessage{&m, channel, part, live}
}

// proper returns a text that is a claim with the code.
func (d *dresser) proper(code string) string {
	return fmt.Sprintf(
		d.pick("/claim %s", "claim %s", "1. claim %s", "https://t.me/"+harness.BotUsername+"?start=claim_%s", "%s", "👋 %s"),
		d.pick(code, claim.Group(code), strings.ToLower(code)),
	)
}

// TestDressedCodes_Withheld sends live codes and invites in many forms on every channel, of many people
// at a time, and checks that none is passed on, stored or logged, not even while it is queued. The same
// texts with other letters are passed on. Each search must find a text that is planted in what is searched.
func TestDressedCodes_Withheld(t *testing.T) {
	harness.ParallelUnlessFull(t)
	words := readWords(t)
	people, rounds := harness.Scaled(2, 50), harness.Scaled(1, 20)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		var log harness.LockedBuffer
		h.Log = &log
		h.Exec(`update instances set sms_invites = true`)
		d := &dresser{Rand: rand.New(rand.NewPCG(3, 4)), words: words, seen: map[string]bool{}}
		sent, others := 0, 0
		for range rounds {
			s, o := sendDressed(t, h, d, people, &log)
			sent, others = sent+s, others+o
			t.Logf("%d texts with live codes and invites on each of %d channels, %d with other letters",
				sent/len(adapters.Channels()), len(adapters.Channels()), others)
			// The next round searches its own messages, not these.
			h.Exec(`update messages set text = '', body = '{}'`)
		}
	})
}

// sendDressed sends messages of some people on each channel with their live codes and invites, and then
// those that end a code or an invite. It returns how many there were with and without live letters.
func sendDressed(
	t *testing.T, h *harness.ClaimFixture, d *dresser, people int, log *harness.LockedBuffer,
) (sent, others int) {
	t.Helper()
	d.live = map[string]bool{}
	type person struct {
		channel      adapters.Channel
		id, stranger string
		code, invite string
	}
	var persons []person
	for _, channel := range adapters.Channels() {
		h.Channel = channel
		for range people {
			p := h.CreateIdentity(h.NewExternalID())
			code := h.IssueCode(p)
			for d.seen[code] || d.clashes(code) {
				code = h.IssueCode(p)
			}
			_, invite := h.CreateInvite("")
			for d.clashes(invite) || strings.Contains(invite, code) {
				_, invite = h.CreateInvite("")
			}
			persons = append(persons, person{channel, p.ExternalID, h.NewExternalID(), code, invite})
			d.live[code], d.live[invite] = true, true
		}
	}
	const each = 20 // texts with live letters of a person
	var first, last []dressedMessage
	for i, p := range persons {
		for j := range each - 2 {
			// An invite in a group is revoked, and so is a code that someone else sends.
			code, group := p.code, j%4 == 2
			if j%4%2 == 1 {
				code, group = p.invite, false
			}
			first = append(first, d.message(p.channel, p.id, code, group, true))
			if j%4 == 0 {
				first = append(first, d.message(p.channel, p.id, d.deadCode(), group, false))
			}
		}
		last = append(last, d.message(p.channel, p.stranger, p.code, i%3 == 1, true),
			d.message(p.channel, p.stranger, p.invite, i%2 == 0, true))
		if i%3 == 0 {
			m := &last[len(last)-2]
			m.Sender.ID, m.Chat.ID, m.Kind, m.Media, m.Text, m.part = p.id, p.id, adapters.Text, nil, d.proper(p.code), ""
		}
	}
	for _, part := range [][]dressedMessage{first, last} {
		// Conversations are processed concurrently, in whatever order messages arrive.
		d.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		byChannel := map[adapters.Channel][]*adapters.Message{}
		for _, m := range part {
			byChannel[m.channel] = append(byChannel[m.channel], m.Message)
			if m.live {
				sent++
			} else {
				others++
			}
		}
		for channel, messages := range byChannel {
			h.Channel = channel
			h.SendMessages(messages...)
		}
		checkDressed(t, h, d, part, log.String(), false)
		h.ProcessAll(h.NewWorker(h.Claims, h.Store))
		checkDressed(t, h, d, part, log.String(), true)
	}
	return sent, others
}

// checkDressed checks the events of messages and everything that is stored and logged.
func checkDressed(
	t *testing.T, h *harness.ClaimFixture, d *dresser, sent []dressedMessage, log string, processed bool,
) {
	t.Helper()
	rows := map[string]string{} // by key
	for _, row := range h.QueryTexts(`
		select m.key, (select count(*) from deliveries d where d.message_id = m.id), m.*
		from messages m where body <> '{}'`) {
		key, rest, _ := strings.Cut(row, " ")
		rows[key] = rest
	}
	inDump := searchDump(t, h, d, sent, log)
	for _, m := range sent {
		delivered, row, found := strings.Cut(rows[m.Key], " ")
		want := "0"
		if processed && !m.live {
			want = "1"
		}
		if !found || delivered != want {
			t.Errorf("%q, live = %v: deliveries = %q, want %s; outcome %q", m.Text, m.live, delivered, want, h.Outcome(m.Key))
		}
		inRow := slices.ContainsFunc(storedForms(m.part), func(form string) bool { return strings.Contains(row, form) })
		switch {
		case m.part == "":
		case m.live && (inDump[m.part] || inRow):
			t.Errorf("%q in %+v found: in its row %v, in the dump %v", m.part, *m.Message, inRow, inDump[m.part])
		case processed && !m.live && !(inDump[m.part] && inRow):
			t.Errorf("%q, passed on, not found: in its row %v, in the dump %v", m.part, inRow, inDump[m.part])
		}
	}
}

// searchDump searches everything that is stored and logged for live letters, and for the parts of messages
// that hold letters, which it returns. It must also find one of them that it plants at the end.
func searchDump(
	t *testing.T, h *harness.ClaimFixture, d *dresser, sent []dressedMessage, log string,
) (found map[string]bool) {
	t.Helper()
	parts, letters := map[string][]string{}, map[string]bool{} // by the forms in which they are stored
	planted := ""
	for _, m := range sent {
		if m.part == "" {
			continue
		}
		if m.live {
			planted = m.part
		}
		for _, form := range storedForms(m.part) {
			parts[form] = append(parts[form], m.part)
		}
	}
	for code := range d.live {
		for _, form := range []string{code, strings.ToLower(code), claim.Group(code), claim.Spell(code)} {
			letters[form] = true
		}
	}
	dump := dumpStores(t, h, log)
	end := len(dump)
	dump = append(dump, "\n"+planted...)
	foundPlanted := false
	found = map[string]bool{}
	texts := slices.AppendSeq(slices.Collect(maps.Keys(parts)), maps.Keys(letters))
	harness.FindTexts(dump, texts, func(text string, at int) {
		switch {
		case at >= end:
			foundPlanted = foundPlanted || slices.Contains(parts[text], planted)
			return
		case len(text) <= len("WDJ-BMJ") && isCiphertext(dump, at, at+len(text)):
			return
		case letters[text]:
			t.Errorf("%q found in the dump: %q", text, dump[max(0, at-50):min(end, at+50)])
		}
		for _, part := range parts[text] {
			found[part] = true
		}
	})
	if !foundPlanted {
		t.Errorf("planted text %q not found", planted)
	}
	return found
}

// storedForms returns the forms in which a text is stored: as it is, in JSON, and in a dump of
// PostgreSQL.
func storedForms(text string) []string {
	quoted, _ := json.Marshal(text)
	inJSON := string(quoted[1 : len(quoted)-1])
	forms := []string{text, inJSON, strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(inJSON)}
	for _, form := range forms {
		forms = append(forms, strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`).Replace(form))
	}
	return forms
}

// isCiphertext reports whether b[from:to] is part of a long run of capital letters, small letters and
// digits, in which any six letters may occur.
func isCiphertext(b []byte, from, to int) bool {
	encoded := func(c byte) bool {
		return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || strings.IndexByte("+/=_-", c) >= 0
	}
	before, after := from, to
	for before > 0 && encoded(b[before-1]) {
		before--
	}
	for after < len(b) && encoded(b[after]) {
		after++
	}
	around := string(b[before:from]) + string(b[to:after])
	capitals := 0 // words, which other columns of a row follow without a gap, have one
	for _, r := range around {
		if unicode.IsUpper(r) {
			capitals++
		}
	}
	return len(around) >= 26 && capitals >= 4 && strings.ContainsFunc(around, unicode.IsLower) &&
		strings.ContainsFunc(around, unicode.IsDigit)
}

// dumpStores returns the log, Redis, and the files of SQLite or the output of pg_dump.
func dumpStores(t *testing.T, h *harness.ClaimFixture, log string) []byte {
	t.Helper()
	all := []byte(log + "\n" + harness.DumpRedis(t, h.Redis))
	if h.IsPostgres() {
		dump, err := exec.CommandContext(t.Context(), "pg_dump", h.DSN).Output()
		if err != nil {
			t.Fatal("pg_dump: ", err)
		}
		return append(all, dump...)
	}
	for _, file := range []string{h.DSN, h.DSN + "-wal"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// TestDressedCodes_Found checks that Scan finds the letters in every form of TestDressedCodes_Withheld.
func TestDressedCodes_Found(t *testing.T) {
	d := &dresser{Rand: rand.New(rand.NewPCG(5, 6)), words: readWords(t), seen: map[string]bool{}}
	n := harness.Scaled(4_000, 400_000)
	for i := range n {
		code := claim.NewCode()
		if i%2 == 1 {
			code = claim.NewInviteCode()
		}
		text, _ := d.dress(code)
		isCode := func(c claim.Candidate) bool { return c.Code == code }
		if !slices.ContainsFunc(claim.Scan(text), isCode) {
			t.Errorf("Scan(%q) does not find %s", text, code)
		}
	}
	t.Logf("%d texts, all found", n)
}
