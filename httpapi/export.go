package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"hydragate/identity"
)

// A Talk is a conversation in which a customer speaks from one account.
type Talk struct {
	ID         string
	TenantID   string
	InstanceID string
	Channel    string
	ExternalID string // of the account
	Group      bool
}

// A ReceivedMessage is one that came from a customer, as it is kept: without codes,
// and without how files are fetched.
type ReceivedMessage struct {
	Seq         int64
	ID          string
	Kind        string
	Text        string
	Attachments []SentFile
	SentAt      time.Time // by the channel's clock; zero when it does not say
	ReceivedAt  time.Time
}

// A SentFile describes a file that came with a message.
type SentFile struct {
	Kind, MIME, Name string
	Size             int64
}

// A SentMessage is one that went, or was to go, to a customer.
type SentMessage struct {
	Seq       int64
	ID        string
	Text      string
	Cause     string
	Status    string
	CreatedAt time.Time
}

type exportAnswer struct {
	Audit         []eventAnswer    `json:"audit" nullable:"false" doc:"Newest first."`
	Conversations []talkAnswer     `json:"conversations" nullable:"false"`
	Customer      customerAnswer   `json:"customer"`
	ExportedAt    time.Time        `json:"exported_at"`
	History       []ownedAnswer    `json:"history" nullable:"false"`
	Identities    []identityAnswer `json:"identities" nullable:"false"`
	Withheld      []string         `json:"withheld" nullable:"false" doc:"Parts that are empty because the key lacks their scope: audit (audit:read), conversations (messages:read), history and identities (identities:read)."`
}

type ownedAnswer struct {
	Channel    string     `json:"channel"`
	ExternalID string     `json:"external_id"`
	IdentityID string     `json:"identity_id" format:"uuid"`
	InstanceID *string    `json:"instance_id" format:"uuid"`
	Since      time.Time  `json:"since"`
	Until      *time.Time `json:"until"`
}

type talkAnswer struct {
	Channel    string           `json:"channel"`
	ExternalID string           `json:"external_id"`
	Group      bool             `json:"group" doc:"Of a group only what the customer wrote and was answered."`
	ID         string           `json:"id" format:"uuid"`
	InstanceID string           `json:"instance_id" format:"uuid"`
	Received   []receivedAnswer `json:"received" nullable:"false" doc:"From the customer, oldest first."`
	Sent       []sentAnswer     `json:"sent" nullable:"false" doc:"To the customer, oldest first."`
}

type receivedAnswer struct {
	Attachments []fileAnswer `json:"attachments" nullable:"false"`
	ID          string       `json:"id" format:"uuid"`
	Kind        string       `json:"kind"`
	ReceivedAt  time.Time    `json:"received_at"`
	SentAt      *time.Time   `json:"sent_at"`
	Text        string       `json:"text"`
}

type fileAnswer struct {
	Filename *string `json:"filename"`
	Kind     string  `json:"kind"`
	MIMEType *string `json:"mime_type"`
	Size     *int64  `json:"size"`
}

type sentAnswer struct {
	Cause     string    `json:"cause"`
	CreatedAt time.Time `json:"created_at"`
	ID        string    `json:"id" format:"uuid"`
	Status    string    `json:"status"`
	Text      string    `json:"text"`
}

// exportCustomer pours everything that is kept about a customer, some rows at a time.
// A key limited to one instance gets what concerns that instance, and a key gets no part
// for which it could not ask by itself.
func (a *API) exportCustomer(ctx context.Context, in *CustomerPath, _ http.Header) (*pour, error) {
	key := callerOf(ctx)
	c, err := a.Store.Customer(ctx, key.TenantID, in.CustomerID)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, a.survivorOf(ctx, in.CustomerID, notFound("Customer"))
	}
	if err != nil {
		return nil, err
	}
	e := export{API: a, key: key, customer: c}
	return &pour{contentType: "application/json", fileName: "customer-" + c.ID + ".json", write: e.write}, nil
}

type export struct {
	*API
	key      identity.APIKey
	customer identity.Customer
}

func (e export) write(ctx context.Context, w io.Writer) error {
	j := &jsonWriter{w: w}
	j.open("{")
	j.field("exported_at", e.Now().UTC())
	j.field("customer", toCustomer(e.customer))
	withheld := []string{}
	for _, part := range []struct {
		name, scope string
		write       func(context.Context, *jsonWriter) error
	}{
		{"identities", "identities:read", e.identities}, {"history", "identities:read", e.history},
		{"conversations", "messages:read", e.talks}, {"audit", "audit:read", e.audit},
	} {
		if !e.key.May(part.scope) {
			withheld = append(withheld, part.name)
			j.field(part.name, []string{})
			continue
		}
		if err := part.write(ctx, j); err != nil {
			return err
		}
	}
	j.field("withheld", withheld)
	j.close("}")
	return j.err
}

func (e export) identities(ctx context.Context, j *jsonWriter) error {
	is, err := e.Store.CustomerIdentities(ctx, e.key.TenantID, e.customer.ID, "")
	shown := []identityAnswer{}
	for _, i := range is {
		if reads(e.key, i) {
			shown = append(shown, toIdentity(i))
		}
	}
	j.field("identities", shown)
	return err
}

func (e export) history(ctx context.Context, j *jsonWriter) error {
	spans, err := e.Store.CustomerHistory(ctx, e.key.TenantID, e.customer.ID)
	shown := []ownedAnswer{}
	for _, o := range spans {
		if reads(e.key, identity.Identity{InstanceID: o.InstanceID}) {
			shown = append(shown, ownedAnswer{
				Channel: o.Channel, ExternalID: o.ExternalID, IdentityID: o.IdentityID, InstanceID: orNull(o.InstanceID), Since: o.Since.UTC(), Until: timeOrNull(o.Until),
			})
		}
	}
	j.field("history", shown)
	return err
}

func (e export) talks(ctx context.Context, j *jsonWriter) error {
	talks, err := e.Store.CustomerTalks(ctx, e.key.TenantID, e.customer.ID, e.key.InstanceID)
	if err != nil {
		return err
	}
	j.name("conversations")
	j.open("[")
	for _, t := range talks {
		if err := e.talk(ctx, j, t); err != nil {
			return err
		}
	}
	j.close("]")
	return j.err
}

func (e export) talk(ctx context.Context, j *jsonWriter, t Talk) error {
	j.item()
	j.open("{")
	j.field("id", t.ID)
	j.field("instance_id", t.InstanceID)
	j.field("channel", t.Channel)
	j.field("external_id", t.ExternalID)
	j.field("group", t.Group)
	err := pieces(j, "received", int64(0), func(after int64) ([]ReceivedMessage, error) { return e.Store.Received(ctx, t, after, piece) },
		func(m ReceivedMessage) int64 { return m.Seq }, toReceived)
	if err != nil {
		return err
	}
	err = pieces(j, "sent", int64(0), func(after int64) ([]SentMessage, error) { return e.Store.Replies(ctx, t, after, piece) },
		func(m SentMessage) int64 { return m.Seq },
		func(m SentMessage) sentAnswer {
			return sentAnswer{Cause: m.Cause, CreatedAt: m.CreatedAt.UTC(), ID: m.ID, Status: m.Status, Text: m.Text}
		})
	j.close("}")
	return err
}

func toReceived(m ReceivedMessage) receivedAnswer {
	r := receivedAnswer{Attachments: []fileAnswer{}, ID: m.ID, Kind: m.Kind, ReceivedAt: m.ReceivedAt.UTC(), SentAt: timeOrNull(m.SentAt), Text: m.Text}
	for _, f := range m.Attachments {
		shown := fileAnswer{Filename: orNull(f.Name), Kind: f.Kind, MIMEType: orNull(f.MIME)}
		if f.Size > 0 {
			shown.Size = &f.Size
		}
		r.Attachments = append(r.Attachments, shown)
	}
	return r
}

func (e export) audit(ctx context.Context, j *jsonWriter) error {
	q := identity.EventQuery{CustomerID: e.customer.ID, InstanceID: e.key.InstanceID}
	return pieces(j, "audit", "", func(before string) ([]identity.Event, error) {
		return e.Store.AuditEvents(ctx, e.key.TenantID, q, before, piece)
	},
		func(ev identity.Event) string { return ev.ID }, toEvent)
}

// pieces writes a list of any length, piece rows in memory at a time.
func pieces[R, T any, C comparable](j *jsonWriter, name string, from C, list func(after C) ([]R, error), at func(R) C, show func(R) T) error {
	j.name(name)
	j.open("[")
	for {
		rows, err := list(from)
		if err != nil {
			return err
		}
		for _, r := range rows {
			j.item()
			j.value(show(r))
			from = at(r)
		}
		if len(rows) < piece || j.err != nil {
			j.close("]")
			return j.err
		}
	}
}

// A jsonWriter writes objects and lists whose ends nobody knows yet. It stops at the
// first error and keeps it.
type jsonWriter struct {
	w     io.Writer
	err   error
	begun []bool // of every object and list that is open: something is in it
}

func (j *jsonWriter) raw(s string) {
	if j.err == nil {
		_, j.err = io.WriteString(j.w, s)
	}
}

func (j *jsonWriter) open(bracket string) {
	j.raw(bracket)
	j.begun = append(j.begun, false)
}

func (j *jsonWriter) close(bracket string) {
	j.raw(bracket)
	j.begun = j.begun[:len(j.begun)-1]
}

// item begins the next thing of what is open.
func (j *jsonWriter) item() {
	if last := len(j.begun) - 1; j.begun[last] {
		j.raw(",")
	} else {
		j.begun[last] = true
	}
}

func (j *jsonWriter) name(name string) {
	j.item()
	j.raw(`"` + name + `":`)
}

func (j *jsonWriter) value(v any) {
	b, err := encode(v)
	if err != nil && j.err == nil {
		j.err = err
	}
	j.raw(string(b))
}

func (j *jsonWriter) field(name string, v any) {
	j.name(name)
	j.value(v)
}
