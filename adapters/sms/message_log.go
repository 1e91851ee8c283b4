package sms

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
)

const (
	logPageSize = 100
	maxLogPages = 1000
)

// FetchLog lists what ep has received since a time, as Twilio's log has it, and hands
// it over oldest first, in batches, with the Keys its webhooks had. It fills the gap
// after an outage: Twilio gives up on a webhook after seconds and keeps the message.
// It stops at the first error of take. Errors of Twilio are *adapters.SendError.
func (a Adapter) FetchLog(ctx context.Context, ep adapters.Endpoint, since time.Time, take func(ctx context.Context, batch []adapters.Message) error) error {
	base, err := accountPath(ep)
	if err != nil {
		return newSendError(err)
	}
	q := url.Values{"DateSent>": {since.UTC().Format(time.RFC3339)}, "PageSize": {fmt.Sprint(logPageSize)}}
	if ep.Settings[MessagingService] == "" {
		q.Set("To", a.twilioAddress(ep.Address))
	}
	var found []adapters.Message
	next := base + "/Messages.json?" + q.Encode()
	for range maxLogPages {
		var page struct {
			Messages []messageRecord `json:"messages"`
			Next     string          `json:"next_page_uri"`
		}
		if err := a.get(ctx, ep, a.origin()+next, &page); err != nil {
			return fmt.Errorf("listing messages: %w", newSendError(err))
		}
		for _, r := range page.Messages {
			m, ok, err := a.fromRecord(ctx, ep, base, r)
			if err != nil {
				return fmt.Errorf("listing media: %w", newSendError(err))
			}
			if ok {
				found = append(found, m)
			}
		}
		if page.Next == "" {
			return deliverBatches(ctx, found, take)
		}
		if !strings.HasPrefix(page.Next, base+"/Messages.json?") || page.Next == next {
			break
		}
		next = page.Next
	}
	return newSendError(&callError{err: errors.New("listing messages: the list has no end")})
}

// deliverBatches gives the messages to take, oldest first; found has the newest first.
func deliverBatches(ctx context.Context, found []adapters.Message, take func(context.Context, []adapters.Message) error) error {
	slices.Reverse(found)
	for batch := range slices.Chunk(found, logPageSize) {
		if err := take(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// fromRecord makes of a line of the log the message its webhook would have made; ok is
// false when it had none for ep.
func (a Adapter) fromRecord(ctx context.Context, ep adapters.Endpoint, base string, r messageRecord) (m adapters.Message, ok bool, err error) {
	if r.Direction != "inbound" || r.AccountSID != ep.Credentials[adapters.AccountSID] || !isMessageSID(r.SID) || !a.isAddressedTo(ep, r.To, r.ServiceSID) {
		return adapters.Message{}, false, nil
	}
	t := inboundMessage{account: r.AccountSID, sid: r.SID, from: r.From, body: r.Body, sentAt: r.createdAt()}
	if r.NumMedia != "" && r.NumMedia != "0" {
		if t.media, err = a.listMedia(ctx, ep, base, r.SID); err != nil {
			return adapters.Message{}, false, err
		}
	}
	m, ok = a.normalize(t)
	m.Chat.Thread = a.poolNumber(ep, r.To)
	return m, ok, nil
}

func (a Adapter) listMedia(ctx context.Context, ep adapters.Endpoint, base, sid string) ([]adapters.Attachment, error) {
	var page struct {
		Media []struct {
			SID         string `json:"sid"`
			ContentType string `json:"content_type"`
		} `json:"media_list"`
	}
	path := base + "/Messages/" + sid + "/Media"
	if err := a.get(ctx, ep, a.origin()+path+".json", &page); err != nil {
		var r *apiError
		if errors.As(err, &r) && r.status == 404 {
			return nil, nil // deleted since
		}
		return nil, err
	}
	var as []adapters.Attachment
	for _, f := range page.Media {
		if isSID(f.SID, "ME") {
			as = append(as, attachment(a.origin()+path+"/"+f.SID, f.ContentType))
		}
	}
	return as, nil
}
