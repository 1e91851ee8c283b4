//go:build linux

package main

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// naivelyTaken reports whether a request would pass checks as they are often written:
// the URL is what the request says of itself, the first of several values counts, what
// has no key is let through, and time plays no part. It shows that a forgery is one.
func (h *hookHouse) naivelyTaken(p *hookPost) bool {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(p.wire())))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	seat, found := h.naiveSeat(r.URL.Path)
	if !found {
		return false
	}
	switch channel, _ := channelOf(p.draft.kind); channel {
	case "telegram":
		return strings.HasPrefix(r.Header.Get(telegramProof), seat.telegramSecret)
	case "slack":
		right := slackSignature(seat.signing, r.Header.Get(slackStamp), string(body))
		return strings.EqualFold(r.Header.Get(slackProof), right)
	}
	form, _ := url.ParseQuery(string(body))
	for name, values := range form {
		form[name] = values[:1]
	}
	host, scheme := r.Host, "https"
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
		host = forwarded
	}
	if forwarded := r.Header.Get("X-Forwarded-Proto"); forwarded != "" {
		scheme = forwarded
	}
	return r.Header.Get(twilioProof) == twilioSignature(seat.token, scheme+"://"+host+r.URL.RequestURI(), form)
}

// naiveSeat finds an instance without looking at anything but its id.
func (h *hookHouse) naiveSeat(path string) (hookSeat, bool) {
	for _, s := range []hookSeat{h.acme, h.neighbour, h.foreigner, h.keyless} {
		if strings.Contains(strings.ToLower(path), s.instance) {
			return s, true
		}
	}
	return hookSeat{}, false
}
