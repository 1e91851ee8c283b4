package process

import (
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// TestResolveSender_Username checks that the username of a message replaces the stored one, and that a message
// without one removes it, except on channels whose messages do not contain usernames.
func TestResolveSender_Username(t *testing.T) {
	for name, c := range map[string]struct {
		channel      adapters.Channel
		stored, sent string
		want         gateway.IdentityUpdate
	}{
		"unchanged":          {adapters.Telegram, "steve", "steve", gateway.IdentityUpdate{}},
		"changed":            {adapters.Telegram, "steve", "steve2", gateway.IdentityUpdate{Username: "steve2"}},
		"given up":           {adapters.Telegram, "steve", "", gateway.IdentityUpdate{ClearUsername: true}},
		"never had one":      {adapters.Telegram, "", "", gateway.IdentityUpdate{}},
		"not in the message": {adapters.Slack, "steve", "", gateway.IdentityUpdate{}},
	} {
		in := gateway.StoredMessage{
			Channel: c.channel, ReceivedAt: time.Unix(1000, 0),
			Message: adapters.Message{Kind: adapters.Text, Sender: adapters.Sender{ID: "7", Username: c.sent}},
			Sender: identity.Identity{
				ID: "i", ExternalID: "7", Username: c.stored, LastSeenAt: time.Unix(1000, 0),
			},
		}
		d := new(Worker).resolveSender(&in)
		var got gateway.IdentityUpdate
		if d.updated != nil {
			got = *d.updated
			got.IdentityID = ""
		}
		if got != c.want {
			t.Errorf("%s: resolveSender() updates %+v, want %+v", name, got, c.want)
		}
	}
}
