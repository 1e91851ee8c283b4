package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// ExportStore reads the data of a customer that only the export contains.
type ExportStore interface {
	// CustomerHistory returns the addresses that a customer has owned, oldest first.
	CustomerHistory(ctx context.Context, tenant, customer string) ([]identity.Ownership, error)
	// CustomerConversations returns the conversations in which a customer has written.
	CustomerConversations(
		ctx context.Context, q gateway.CustomerConversationQuery,
	) ([]gateway.CustomerConversation, error)
	// ReceivedMessages returns the messages from the customer in a conversation, in order, whose
	// Seq is above after.
	ReceivedMessages(
		ctx context.Context, t gateway.CustomerConversation, after int64, limit int,
	) ([]gateway.ReceivedMessage, error)
	// SentMessages returns the messages to the customer in a conversation, in order, whose Seq is
	// above after.
	SentMessages(
		ctx context.Context, t gateway.CustomerConversation, after int64, limit int,
	) ([]gateway.SentMessage, error)
}

type exportResponse struct {
	Audit         []eventResponse    `json:"audit" nullable:"false"`
	Conversations []talkResponse     `json:"conversations" nullable:"false"`
	Customer      customerResponse   `json:"customer"`
	ExportedAt    time.Time          `json:"exported_at"`
	History       []ownedResponse    `json:"history" nullable:"false"`
	Identities    []identityResponse `json:"identities" nullable:"false"`
	Withheld      []string           `json:"withheld" nullable:"false"`
}

type ownedResponse struct {
	Channel    string     `json:"channel"`
	ExternalID string     `json:"external_id"`
	IdentityID string     `json:"identity_id" format:"uuid"`
	InstanceID *string    `json:"instance_id" format:"uuid"`
	Since      time.Time  `json:"since"`
	Until      *time.Time `json:"until"`
}

type talkResponse struct {
	Channel    string             `json:"channel"`
	ExternalID string             `json:"external_id"`
	Group      bool               `json:"group"`
	ID         string             `json:"id" format:"uuid"`
	InstanceID string             `json:"instance_id" format:"uuid"`
	Received   []receivedResponse `json:"received" nullable:"false"`
	Sent       []sentResponse     `json:"sent" nullable:"false"`
}

type receivedResponse struct {
	Action       *string           `json:"action"`
	Attachments  []fileResponse    `json:"attachments" nullable:"false"`
	Content      []contentResponse `json:"content" nullable:"false"`
	ID           string            `json:"id" format:"uuid"`
	Kind         string            `json:"kind"`
	ReceivedAt   time.Time         `json:"received_at"`
	SentAt       *time.Time        `json:"sent_at"`
	StartPayload *string           `json:"start_payload"`
	Text         string            `json:"text"`
}

type contentResponse struct {
	Address     string   `json:"address,omitempty" doc:"Address of a place."`
	Data        any      `json:"data,omitempty" doc:"What was entered in a form, or is known of other content."`
	Kind        string   `json:"kind" doc:"Kind of the content: location, contact, form, quote or other."`
	Latitude    *float64 `json:"latitude,omitempty" doc:"Of a location, in degrees."`
	Longitude   *float64 `json:"longitude,omitempty" doc:"Of a location, in degrees."`
	Name        string   `json:"name,omitempty" doc:"Name of a contact, of the author of a quote, or of the provider's field."`
	PhoneNumber string   `json:"phone_number,omitempty" doc:"Number of a contact, as the provider writes it."`
	Text        string   `json:"text,omitempty" doc:"Words of another message that the customer quoted."`
	Title       string   `json:"title,omitempty" doc:"Name of a place."`
}

type fileResponse struct {
	Filename *string `json:"filename" doc:"Name of the file."`
	Kind     string  `json:"kind" doc:"Kind of the file, such as image."`
	MIMEType *string `json:"mime_type" doc:"Media type of the file."`
	Size     *int64  `json:"size" doc:"Size in bytes. Null if unknown."`
}

type sentResponse struct {
	Cause     string    `json:"cause" doc:"What caused the message, such as agent for a reply of the application."`
	CreatedAt time.Time `json:"created_at" doc:"When the message was created."`
	ID        string    `json:"id" format:"uuid" doc:"ID of the message."`
	Status    string    `json:"status" doc:"Status of the message, such as delivered."`
	Text      string    `json:"text" doc:"Text of the message."`
}

// exportCustomer streams all data about a customer. A key limited to one instance gets the data of
// that instance. Parts for which the key lacks the scope are empty and listed in withheld.
func (a *API) exportCustomer(ctx context.Context, in *CustomerPath, _ http.Header) (*operation.StreamResponse, error) {
	key := operation.CallerOf(ctx)
	c, err := a.Stores.Customers.Customer(ctx, key.TenantID, in.CustomerID)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, a.explainMerge(ctx, in.CustomerID, fastapi.NotFound("Customer"))
	}
	if err != nil {
		return nil, err
	}
	e := customerExport{API: a, key: key, customer: c}
	return &operation.StreamResponse{
		ContentType: "application/json", FileName: "customer-" + c.ID + ".json", Write: e.write,
	}, nil
}

// A customerExport writes the export of a customer.
type customerExport struct {
	*API
	key      identity.APIKey
	customer identity.Customer
}

func (e customerExport) write(ctx context.Context, w io.Writer) error {
	j := &jsonWriter{w: w}
	j.open("{")
	j.field("exported_at", e.Now().UTC())
	j.field("customer", toCustomer(e.customer))
	withheld := []string{}
	for _, part := range []struct {
		name, scope string
		write       func(context.Context, *jsonWriter) error
	}{
		{"identities", "identities:read", e.writeIdentities},
		{"history", "identities:read", e.writeHistory},
		{"conversations", "messages:read", e.writeConversations},
		{"audit", "audit:read", e.writeAudit},
	} {
		if !e.key.HasScope(part.scope) {
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

func (e customerExport) writeIdentities(ctx context.Context, j *jsonWriter) error {
	is, err := e.Stores.Identities.CustomerIdentities(ctx, identity.Query{
		TenantID: e.key.TenantID, CustomerID: e.customer.ID,
	})
	shown := []identityResponse{}
	for _, i := range is {
		if operation.CanReadIdentity(e.key, i) {
			shown = append(shown, toIdentity(i))
		}
	}
	j.field("identities", shown)
	return err
}

func (e customerExport) writeHistory(ctx context.Context, j *jsonWriter) error {
	owners, err := e.Stores.Exports.CustomerHistory(ctx, e.key.TenantID, e.customer.ID)
	shown := []ownedResponse{}
	for _, o := range owners {
		if operation.CanReadIdentity(e.key, identity.Identity{InstanceID: o.InstanceID}) {
			shown = append(shown, ownedResponse{
				Channel:    o.Channel,
				ExternalID: o.ExternalID,
				IdentityID: o.IdentityID,
				InstanceID: operation.NullableString(o.InstanceID),
				Since:      o.Since.UTC(),
				Until:      operation.NullableTime(o.Until),
			})
		}
	}
	j.field("history", shown)
	return err
}

func (e customerExport) writeConversations(ctx context.Context, j *jsonWriter) error {
	conversations, err := e.Stores.Exports.CustomerConversations(ctx, gateway.CustomerConversationQuery{
		TenantID: e.key.TenantID, CustomerID: e.customer.ID, InstanceID: e.key.InstanceID,
	})
	if err != nil {
		return err
	}
	j.name("conversations")
	j.open("[")
	for _, t := range conversations {
		if err := e.writeConversation(ctx, j, t); err != nil {
			return err
		}
	}
	j.close("]")
	return j.err
}

func (e customerExport) writeConversation(ctx context.Context, j *jsonWriter, t gateway.CustomerConversation) error {
	j.beginItem()
	j.open("{")
	j.field("id", t.ID)
	j.field("instance_id", t.InstanceID)
	j.field("channel", t.Channel)
	j.field("external_id", t.ExternalID)
	j.field("group", t.Group)
	err := writeList(j, "received", int64(0), func(after int64) ([]gateway.ReceivedMessage, error) {
		return e.Stores.Exports.ReceivedMessages(ctx, t, after, batchRows)
	},
		func(m gateway.ReceivedMessage) int64 { return m.Seq }, toReceived)
	if err != nil {
		return err
	}
	err = writeList(j, "sent", int64(0), func(after int64) ([]gateway.SentMessage, error) {
		return e.Stores.Exports.SentMessages(ctx, t, after, batchRows)
	},
		func(m gateway.SentMessage) int64 { return m.Seq },
		func(m gateway.SentMessage) sentResponse {
			return sentResponse{Cause: m.Cause, CreatedAt: m.CreatedAt.UTC(), ID: m.ID, Status: m.Status, Text: m.Text}
		})
	j.close("}")
	return err
}

func toReceived(m gateway.ReceivedMessage) receivedResponse {
	r := receivedResponse{
		Action: operation.NullableString(m.Action), Attachments: []fileResponse{}, Content: []contentResponse{},
		ID: m.ID, Kind: m.Kind, ReceivedAt: m.ReceivedAt.UTC(), SentAt: operation.NullableTime(m.SentAt),
		StartPayload: operation.NullableString(m.StartPayload), Text: m.Text,
	}
	for _, c := range m.Content {
		shown := contentResponse{
			Address: c.Address, Data: c.Data, Kind: string(c.Kind), Name: c.Name, PhoneNumber: c.PhoneNumber,
			Text: c.Text, Title: c.Title,
		}
		if c.Kind == adapters.Location {
			shown.Latitude, shown.Longitude = &c.Latitude, &c.Longitude
		}
		r.Content = append(r.Content, shown)
	}
	for _, f := range m.Attachments {
		shown := fileResponse{
			Filename: operation.NullableString(f.Name), Kind: f.Kind, MIMEType: operation.NullableString(f.MIME),
		}
		if f.Size > 0 {
			shown.Size = &f.Size
		}
		r.Attachments = append(r.Attachments, shown)
	}
	return r
}

func (e customerExport) writeAudit(ctx context.Context, j *jsonWriter) error {
	q := identity.EventQuery{CustomerID: e.customer.ID, InstanceID: e.key.InstanceID}
	return writeList(j, "audit", "", func(before string) ([]identity.Event, error) {
		return e.Stores.Audit.AuditEvents(ctx, e.key.TenantID, q, before, batchRows)
	},
		func(ev identity.Event) string { return ev.ID }, toEvent)
}

// writeList writes a list of any length in batches of batchRows. list returns the rows after a
// position, at returns the position of a row, and show converts a row.
func writeList[R, T any, C comparable](
	j *jsonWriter, name string, from C, list func(after C) ([]R, error), at func(R) C, show func(R) T,
) error {
	j.name(name)
	j.open("[")
	for {
		rows, err := list(from)
		if err != nil {
			return err
		}
		for _, r := range rows {
			j.beginItem()
			j.value(show(r))
			from = at(r)
		}
		if len(rows) < batchRows || j.err != nil {
			j.close("]")
			return j.err
		}
	}
}

// A jsonWriter writes JSON incrementally. After an error it writes nothing more; the error is in
// err.
type jsonWriter struct {
	w        io.Writer
	err      error
	nonEmpty []bool // for each open object or list: it has an item
}

func (j *jsonWriter) raw(s string) {
	if j.err == nil {
		_, j.err = io.WriteString(j.w, s)
	}
}

// open writes an opening bracket.
func (j *jsonWriter) open(bracket string) {
	j.raw(bracket)
	j.nonEmpty = append(j.nonEmpty, false)
}

// close writes the closing bracket of the innermost object or list.
func (j *jsonWriter) close(bracket string) {
	j.raw(bracket)
	j.nonEmpty = j.nonEmpty[:len(j.nonEmpty)-1]
}

// beginItem writes the separator before the next item of the innermost object or list.
func (j *jsonWriter) beginItem() {
	if last := len(j.nonEmpty) - 1; j.nonEmpty[last] {
		j.raw(",")
	} else {
		j.nonEmpty[last] = true
	}
}

// name writes the name of the next field.
func (j *jsonWriter) name(name string) {
	j.beginItem()
	j.raw(`"` + name + `":`)
}

// value writes the JSON of v.
func (j *jsonWriter) value(v any) {
	b, err := fastapi.Encode(v)
	if err != nil && j.err == nil {
		j.err = err
	}
	j.raw(string(b))
}

// field writes a field of an object.
func (j *jsonWriter) field(name string, v any) {
	j.name(name)
	j.value(v)
}
