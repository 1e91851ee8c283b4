package main

import (
	"testing"
)

func TestProviders_Webhook(t *testing.T) {
	p, err := startProviders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, channel := range allChannels() {
		if h := p.webhook(channel, "http://127.0.0.1:1/x#rc=5"); channel != telegramChannel && h.secret == "" {
			t.Errorf("the webhook of %s has no secret", channel)
		}
	}
	if h := p.webhook(smsChannel, "http://127.0.0.1:1/x#rc=5"); h.url != "http://127.0.0.1:1/x" {
		t.Errorf("URL = %q, want it without the fragment, which is not signed", h.url)
	}
}
