package sms

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"hydragate/adapters"
)

const (
	maxMedia    = 10 // of one message
	maxReferral = 4096
)

// attachments returns the files of a webhook's form. It uses the URLs that are present and
// ignores NumMedia. A file whose URL is not at Twilio has no Ref, so that it is never fetched.
func (a Adapter) attachments(form url.Values) []adapters.Attachment {
	var found []adapters.Attachment
	for i := range maxMedia {
		n := strconv.Itoa(i)
		ref := form.Get("MediaUrl" + n)
		if ref == "" {
			continue
		}
		if !a.isMediaURL(ref, form.Get("AccountSid")) {
			ref = ""
		}
		found = append(found, attachment(ref, form.Get("MediaContentType"+n)))
	}
	return found
}

// isMediaURL reports whether ref is the URL of a file of this account at Twilio. The gateway must not
// fetch a URL chosen by a sender.
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

// parseContent returns what a webhook's form contains besides text, files and choices: a location, the
// answers of a WhatsApp Flow, and the advertisement or post to which the message responds.
func parseContent(form url.Values) []adapters.Content {
	var found []adapters.Content
	if location, ok := parseLocation(form); ok {
		found = append(found, location)
	}
	for _, name := range []string{"InteractiveData", "FlowData"} {
		if v := form.Get(name); v != "" {
			found = append(found, adapters.Content{Kind: adapters.Form, Data: parseFormData(v)})
			break
		}
	}
	if r := parseReferral(form); len(r) > 0 {
		found = append(found, adapters.Content{Kind: adapters.Other, Name: "Referral", Data: r})
	}
	return found
}

// parseFormData returns the object that s encodes, or s itself if it is none.
func parseFormData(s string) any {
	s = adapters.Sanitize(s, adapters.MaxInboundText)
	var object map[string]any
	if json.Unmarshal([]byte(s), &object) != nil || object == nil {
		return s
	}
	return object
}

// parseReferral returns the parameters Referral…, which describe the advertisement or post from which
// the person started the conversation, without the prefix. It returns nil if they have no value.
func parseReferral(form url.Values) map[string]any {
	var referral map[string]any
	for name, values := range form {
		field, found := strings.CutPrefix(name, "Referral")
		if !found || field == "" || field == "NumMedia" || values[0] == "" {
			continue
		}
		if referral == nil {
			referral = map[string]any{}
		}
		referral[adapters.Sanitize(field, maxLabel)] = adapters.Sanitize(values[0], maxReferral)
	}
	return referral
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
