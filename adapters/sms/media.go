package sms

import (
	"net/url"
	"strconv"
	"strings"

	"hydragate/adapters"
)

const maxMedia = 10 // of one message

// attachments reads what is attached. It counts the URLs that are there and not what
// NumMedia says of them.
func (a Adapter) attachments(form url.Values) []adapters.Attachment {
	var as []adapters.Attachment
	for i := range maxMedia {
		n := strconv.Itoa(i)
		ref := form.Get("MediaUrl" + n)
		if !a.isMediaURL(ref, form.Get("AccountSid")) {
			continue
		}
		as = append(as, attachment(ref, form.Get("MediaContentType"+n)))
	}
	if place, ok := parseLocation(form); ok {
		as = append(as, place)
	}
	return as
}

// isMediaURL reports whether ref is a file of this account at Twilio. Anything else
// is ignored, so that nobody makes the gateway fetch a URL of theirs.
func (a Adapter) isMediaURL(ref, account string) bool {
	for _, origin := range []string{a.origin(), twilioOrigin} {
		rest, found := strings.CutPrefix(ref, origin+"/2010-04-01/Accounts/"+account+"/Messages/")
		message, file, _ := strings.Cut(rest, "/Media/")
		if found && isMessageSID(message) && isSID(file, "ME") {
			return true
		}
	}
	return false
}

func attachment(ref, contentType string) adapters.Attachment {
	contentType = adapters.Sanitize(contentType, maxLabel)
	kind := "file"
	switch family, _, _ := strings.Cut(contentType, "/"); {
	case family == "image" || family == "audio" || family == "video":
		kind = family
	case contentType == "text/vcard" || contentType == "text/x-vcard":
		kind = "contact"
	}
	return adapters.Attachment{Kind: kind, Ref: ref, MIME: contentType}
}

// parseLocation reads the place a person shared on WhatsApp.
func parseLocation(form url.Values) (adapters.Attachment, bool) {
	lat, errLat := strconv.ParseFloat(form.Get("Latitude"), 64)
	long, errLong := strconv.ParseFloat(form.Get("Longitude"), 64)
	if errLat != nil || errLong != nil || !(lat >= -90 && lat <= 90) || !(long >= -180 && long <= 180) {
		return adapters.Attachment{}, false
	}
	ref := "geo:" + strconv.FormatFloat(lat, 'f', -1, 64) + "," + strconv.FormatFloat(long, 'f', -1, 64)
	return adapters.Attachment{Kind: "location", Ref: ref, Name: adapters.Sanitize(form.Get("Label"), maxLabel)}, true
}
