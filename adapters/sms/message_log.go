package sms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	api "github.com/twilio/twilio-go/rest/api/v2010"

	"hydragate/adapters"
)

const (
	logPageSize = 100
	maxLogPages = 1000
)

var errInvalidNextPage = errors.New("log has an invalid next page")

// FetchLog reads the messages that ep has received since a time from Twilio's log, and passes them
// to store in batches, oldest first, with the same Keys as their webhooks. It closes the gap after
// an outage, since Twilio stops retrying a webhook after seconds. It returns the first error of
// store. Errors of Twilio are of type *adapters.SendError; no message is passed to store then.
func (a Adapter) FetchLog(
	ctx context.Context, ep adapters.Endpoint, since time.Time,
	store func(ctx context.Context, batch []adapters.Message) error,
) error {
	twilio, err := a.newAPI(ctx, ep)
	if err != nil {
		return newSendError(err)
	}
	found, err := a.listReceived(twilio, ep, since)
	if err != nil {
		return err
	}
	slices.Reverse(found)
	for batch := range slices.Chunk(found, logPageSize) {
		if err := store(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// listReceived returns the messages in the log that ep has received since a time, newest first.
func (a Adapter) listReceived(
	twilio *api.ApiService, ep adapters.Endpoint, since time.Time,
) (found []adapters.Message, err error) {
	filter := (&api.ListMessageParams{}).SetDateSentAfter(since.UTC()).SetPageSize(logPageSize)
	if ep.Pool.ID == "" {
		filter.SetTo(a.twilioAddress(ep.Address))
	}
	var next logPage
	for range maxLogPages {
		page, err := twilio.PageMessage(filter, next.token, next.number)
		if err != nil {
			return nil, fmt.Errorf("list messages: %w", newSendError(err))
		}
		messages, err := a.fromRecords(twilio, ep, page.Messages)
		if err != nil {
			return nil, fmt.Errorf("list media: %w", newSendError(err))
		}
		found = append(found, messages...)
		if deref(page.NextPageUri) == "" {
			return found, nil
		}
		previous := next
		next, err = parseNextPage(*page.NextPageUri, ep.Credentials[adapters.AccountSID])
		if err != nil || next == previous {
			break
		}
	}
	return nil, fmt.Errorf("list messages: %w", newSendError(&callError{err: errInvalidNextPage}))
}

// A logPage identifies a page of Twilio's log.
type logPage struct{ token, number string }

// parseNextPage returns the page that a next_page_uri of the log of an account refers to.
func parseNextPage(uri, account string) (logPage, error) {
	query, ok := strings.CutPrefix(uri, "/2010-04-01/Accounts/"+account+"/Messages.json?")
	if !ok {
		return logPage{}, errInvalidNextPage
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return logPage{}, errInvalidNextPage
	}
	return logPage{token: values.Get("PageToken"), number: values.Get("Page")}, nil
}

// fromRecords returns the messages among records that ep received.
func (a Adapter) fromRecords(
	twilio *api.ApiService, ep adapters.Endpoint, records []api.ApiV2010Message,
) (found []adapters.Message, err error) {
	for _, r := range records {
		if !a.isReceived(ep, r) {
			continue
		}
		m, ok, err := a.fromRecord(twilio, ep, r)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, m)
		}
	}
	return found, nil
}

// isReceived reports whether r is a message that ep received.
func (a Adapter) isReceived(ep adapters.Endpoint, r api.ApiV2010Message) bool {
	return deref(r.Direction) == "inbound" && deref(r.AccountSid) == ep.Credentials[adapters.AccountSID] &&
		isMessageSID(deref(r.Sid)) && a.isAddressedTo(ep, deref(r.To), deref(r.MessagingServiceSid))
}

// fromRecord returns the message that the webhook of r would have carried, as far as the log contains it.
// It does not show whether a WhatsApp message was forwarded, so that such a message is unproven. ok
// is false if no genuine message has such a sender.
func (a Adapter) fromRecord(
	twilio *api.ApiService, ep adapters.Endpoint, r api.ApiV2010Message,
) (m adapters.Message, ok bool, err error) {
	in := inboundMessage{
		account: deref(r.AccountSid), sid: deref(r.Sid),
		from: deref(r.From), body: deref(r.Body), sentAt: createdAt(r), fromLog: true,
	}
	if n := deref(r.NumMedia); n != "" && n != "0" {
		if in.media, err = a.listMedia(twilio, in.account, in.sid); err != nil {
			return adapters.Message{}, false, err
		}
	}
	m, ok = a.normalize(in)
	m.Chat.Thread = a.replyFrom(ep, deref(r.To))
	return m, ok, nil
}

// listMedia returns the files of a message. It returns none if the message has been deleted.
func (a Adapter) listMedia(twilio *api.ApiService, account, message string) ([]adapters.Attachment, error) {
	page, err := twilio.PageMedia(message, nil, "", "")
	if err != nil {
		var response *apiError
		if errors.As(err, &response) && response.status == http.StatusNotFound {
			return nil, nil
		}
		return nil, err
	}
	var files []adapters.Attachment
	for _, f := range page.MediaList {
		if sid := deref(f.Sid); isSID(sid, "ME") {
			ref := a.origin() + "/2010-04-01/Accounts/" + account + "/Messages/" + message + "/Media/" + sid
			files = append(files, attachment(ref, deref(f.ContentType)))
		}
	}
	return files, nil
}
