package httpapi

import (
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"strings"
	"time"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// AuditStore reads the audit log.
type AuditStore interface {
	// AuditEvents returns events, newest first. A nonempty before is the ID of the last event of
	// the previous page.
	AuditEvents(
		ctx context.Context, tenant string, q identity.EventQuery, before string, limit int,
	) ([]identity.Event, error)
}

type eventResponse struct {
	Actor      string            `json:"actor"`
	ActorName  *string           `json:"actor_name"`
	At         time.Time         `json:"at"`
	CustomerID *string           `json:"customer_id" format:"uuid"`
	Detail     map[string]string `json:"detail"`
	ID         string            `json:"id" format:"uuid"`
	IdentityID *string           `json:"identity_id" format:"uuid"`
	InstanceID *string           `json:"instance_id" format:"uuid"`
	Kind       string            `json:"kind"`
	MessageID  *string           `json:"message_id" format:"uuid"`
}

func toEvent(e identity.Event) eventResponse {
	detail := e.Detail
	if detail == nil {
		detail = map[string]string{}
	}
	return eventResponse{
		Actor:      string(e.Actor),
		ActorName:  operation.NullableString(e.ActorName),
		At:         e.At.UTC(),
		CustomerID: operation.NullableString(e.CustomerID),
		Detail:     detail,
		ID:         e.ID,
		IdentityID: operation.NullableString(e.IdentityID),
		InstanceID: operation.NullableString(e.InstanceID),
		Kind:       e.Kind,
		MessageID:  operation.NullableString(e.MessageID),
	}
}

// auditQuery contains the filters of the audit log.
type auditQuery struct {
	operation.PageQuery
	Kind       string    `query:"kind" minLength:"1" maxLength:"64" doc:"Only events of this kind, such as claim.redeemed."`
	Actor      string    `query:"actor" minLength:"1" maxLength:"64" doc:"Only events caused by this actor, such as key: and the ID of an API key."`
	CustomerID string    `query:"customer_id" format:"uuid" doc:"Only events that concern this customer."`
	IdentityID string    `query:"identity_id" format:"uuid" doc:"Only events that concern this identity."`
	InstanceID string    `query:"instance_id" format:"uuid" doc:"Only events that concern this instance. A key limited to one instance sees only the events of that instance."`
	Since      time.Time `query:"since" doc:"Only events at or after this time."`
	Until      time.Time `query:"until" doc:"Only events before this time."`
	Format     string    `query:"format" enum:"json,csv" doc:"Format of the response. Default: json."`
}

// readAudit returns a page of the audit log, or all of it as CSV, newest first.
func (a *API) readAudit(ctx context.Context, in *auditQuery, h http.Header) (*operation.StreamResponse, error) {
	key := operation.CallerOf(ctx)
	instance, err := operation.ResolveInstance(key, in.InstanceID)
	if err != nil {
		return nil, err
	}
	q := identity.EventQuery{
		Kind:       in.Kind,
		Actor:      identity.Actor(in.Actor),
		CustomerID: in.CustomerID,
		IdentityID: in.IdentityID,
		InstanceID: instance,
		Since:      in.Since,
		Until:      in.Until,
	}
	list := func(before string, limit int) ([]identity.Event, error) {
		return a.Stores.Audit.AuditEvents(ctx, key.TenantID, q, before, limit)
	}
	if in.Format == "csv" || in.Format == "" && acceptsCSV(h) {
		return a.streamAuditCSV(in.Cursor, list)
	}
	p, err := operation.FetchPage(in.PageQuery, list, func(e identity.Event) string { return e.ID }, toEvent)
	if err != nil {
		return nil, err
	}
	body, err := fastapi.Encode(p.Body)
	write := func(_ context.Context, w io.Writer) error {
		_, err := w.Write(body)
		return err
	}
	return &operation.StreamResponse{ContentType: "application/json", Write: write}, err
}

// acceptsCSV reports whether the client accepts CSV and does not ask for JSON.
func acceptsCSV(h http.Header) bool {
	accept := strings.ToLower(strings.Join(h.Values("Accept"), ","))
	return strings.Contains(accept, "text/csv") && !strings.Contains(accept, "json")
}

// batchRows is the number of rows read at a time for a streamed response.
const batchRows = 500

// streamAuditCSV streams all events as CSV. It reads the first batch before the response begins, so
// that an unavailable database results in an error response.
func (a *API) streamAuditCSV(
	before string, list func(before string, limit int) ([]identity.Event, error),
) (*operation.StreamResponse, error) {
	events, err := list(before, batchRows)
	if err != nil {
		return nil, err
	}
	write := func(_ context.Context, out io.Writer) error {
		w := csv.NewWriter(out)
		w.UseCRLF = true
		_ = w.Write([]string{
			"at", "kind", "actor", "actor_name", "customer_id", "identity_id", "instance_id", "message_id", "detail", "id",
		})
		for {
			for _, e := range events {
				if err := w.Write(csvRow(e)); err != nil {
					return err
				}
			}
			if len(events) < batchRows {
				w.Flush()
				return w.Error()
			}
			if events, err = list(events[len(events)-1].ID, batchRows); err != nil {
				return err
			}
		}
	}
	return &operation.StreamResponse{
		ContentType: "text/csv; charset=utf-8", FileName: "audit.csv", Write: write,
	}, nil
}

func csvRow(e identity.Event) []string {
	detail, _ := fastapi.Encode(toEvent(e).Detail) // a map of strings: cannot fail
	row := []string{
		e.At.UTC().Format(time.RFC3339Nano), e.Kind, string(e.Actor), e.ActorName, e.CustomerID, e.IdentityID,
		e.InstanceID, e.MessageID, string(detail), e.ID,
	}
	for i := range row {
		row[i] = escapeFormula(row[i])
	}
	return row
}

// escapeFormula prefixes text that a spreadsheet would interpret as a formula with an apostrophe.
func escapeFormula(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}
