package sms

import "strings"

// readsTwoWays reports whether a signed text may have been another message when
// Twilio signed it. Nothing stands between keys and values in it, so a person who
// writes "…From+15550001111MessageSidSM…" makes a text that whoever captures the
// request can cut into other fields under the same signature. However it is cut, the
// sender and the SID that Twilio put in are still there, before the keys that follow
// them: when they are not the ones that were read, the reading is not Twilio's.
//
// Such a message is refused, not guessed at; Sweep reads the log, where nothing can
// be cut, and brings the genuine one.
func readsTwoWays(signedText, from, sid string) bool {
	for rest := range after(signedText, "From") {
		if other, ok := senderBefore(rest); ok && other != from {
			return true
		}
	}
	texts := strings.ReplaceAll(signedText, "OriginalRepliedMessageSid", "")
	for rest := range after(texts, "MessageSid") {
		if len(rest) >= len(sid) && isMessageSID(rest[:len(sid)]) && rest[:len(sid)] != sid {
			return true
		}
	}
	return false
}

// senderBefore gives what s begins with, if it can be a sender and a parameter that
// follows From in Twilio's order comes next.
func senderBefore(s string) (sender string, ok bool) {
	for _, part := range []string{"City", "Country", "State", "Zip"} {
		if strings.HasPrefix(s, part) {
			return "", false // where the sender is, not who
		}
	}
	end := -1
	for _, next := range []string{
		"FromCity", "FromCountry", "FromState", "FromZip", "Interactive", "Label", "Latitude",
		"ListId", "ListTitle", "Longitude", "MediaContentType0", "MediaUrl0", "MessageSid", "MessageType",
	} {
		if i := strings.Index(s, next); i >= 0 && (end < 0 || i < end) {
			end = i
		}
	}
	if end < 0 {
		return "", false
	}
	sender = s[:end]
	bare := strings.TrimPrefix(sender, whatsApp)
	_, _, known := smsSender(bare)
	return sender, (known || isScopedID(bare)) && !strings.Contains(sender, "From")
}

// after gives what follows each mark in s.
func after(s, mark string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, rest, found := strings.Cut(s, mark); found; _, rest, found = strings.Cut(rest, mark) {
			if !yield(rest) {
				return
			}
		}
	}
}
