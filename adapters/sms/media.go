package sms

import (
	"net/url"
	"strconv"
	"strings"

	"hydragate/adapters"
)

const maxMedia = 10 // of one message

// attachments returns the files and the location of a webhook's form. It uses the URLs that are
// present and ignores NumMedia.
func (a Adapter) attachments(form url.Values) []adapters.Attachment {
	var found []adapters.Attachment
	for i := range maxMedia {
		n := strconv.Itoa(i)
		ref := form.Get("MediaUrl" + n)
		if !a.isMediaURL(ref, form.Get("AccountSid")) {
			continue
		}
		found = append(found, attachment(ref, form.Get("MediaContentType"+n)))
	}
	if location, ok := parseLocation(form); ok {
		found = append(found, location)
	}
	return found
}

// isMediaURL reports whether ref is the URL of a file of this account at Twilio. Other URLs are
// ignored, since the gateway must not fetch a URL chosen by a sender.
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
	switch major, _, _ := strings.Cut(contentType, "/"); {
	case major == "image" || major == "audio" || major == "video":
		kind = major
	case contentType == "text/vcard" || contentType == "text/x-vcard":
		kind = "contact"
	}
	return adapters.Attachment{Kind: kind, Ref: ref, MIME: contentType}
}

// parseLocation returns the location that a person shared on WhatsApp. ok is false if the form has
// no valid coordinates.
func parseLocation(form url.Values) (location adapters.Attachment, ok bool) {
	latitude, ok := parseCoordinate(form.Get("Latitude"), 90)
	if !ok {
		return adapters.Attachment{}, false
	}
	longitude, ok := parseCoordinate(form.Get("Longitude"), 180)
	if !ok {
		return adapters.Attachment{}, false
	}
	ref := "geo:" + latitude + "," + longitude
	return adapters.Attachment{Kind: "location", Ref: ref, Name: adapters.Sanitize(form.Get("Label"), maxLabel)}, true
}

// parseCoordinate returns a coordinate between -limit and limit in decimal notation.
func parseCoordinate(s string, limit float64) (decimal string, ok bool) {
	degrees, err := strconv.ParseFloat(s, 64)
	if err != nil || !(degrees >= -limit && degrees <= limit) { // NaN is neither
		return "", false
	}
	return strconv.FormatFloat(degrees, 'f', -1, 64), true
}
