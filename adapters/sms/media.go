package sms

import (
	"net/url"
	"strconv"
	"strings"

	"hydragate/adapters"
)

const maxMedia = 10 // of one message

// attachments returns the files of a webhook's form. It uses the URLs that are present and ignores
// NumMedia.
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

// attachment returns the file with a URL. Its kind depends on the media type without parameters.
func attachment(ref, contentType string) adapters.Attachment {
	contentType = adapters.Sanitize(contentType, maxLabel)
	mediaType, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	mediaType = strings.TrimSpace(mediaType)
	kind := "file"
	switch major, _, _ := strings.Cut(mediaType, "/"); {
	case major == "image" || major == "audio" || major == "video":
		kind = major
	case mediaType == "text/vcard" || mediaType == "text/x-vcard" || mediaType == "text/directory":
		kind = "contact"
	}
	return adapters.Attachment{Kind: kind, Ref: ref, MIME: contentType}
}

// parseLocation returns the location that a person shared on WhatsApp. ok is false if the form has
// no valid coordinates.
func parseLocation(form url.Values) (location adapters.Content, ok bool) {
	latitude, ok := parseCoordinate(form.Get("Latitude"), 90)
	if !ok {
		return adapters.Content{}, false
	}
	longitude, ok := parseCoordinate(form.Get("Longitude"), 180)
	if !ok {
		return adapters.Content{}, false
	}
	return adapters.Content{
		Kind: adapters.Location, Latitude: latitude, Longitude: longitude,
		Title: adapters.Sanitize(form.Get("Label"), maxLabel), Address: adapters.Sanitize(form.Get("Address"), maxLabel),
	}, true
}

// parseCoordinate returns a coordinate between -limit and limit.
func parseCoordinate(s string, limit float64) (degrees float64, ok bool) {
	degrees, err := strconv.ParseFloat(s, 64)
	return degrees, err == nil && degrees >= -limit && degrees <= limit // NaN is neither
}
