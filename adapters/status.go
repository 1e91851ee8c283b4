package adapters

import (
	"context"
	"net/url"
	"strings"
	"time"
)

// A StatusReporter is a Configurer whose provider can be asked whether an endpoint works. Its result
// is the status of the endpoint; what was set up once may have been changed at the provider since.
type StatusReporter interface {
	Configurer

	// Status asks the provider about ep, which received its last message at lastEvent, or never if
	// that is zero. It changes nothing at the provider. Every error is a *SetupError. One that is
	// not retryable says that the endpoint does not work; after others its status is unknown.
	Status(ctx context.Context, ep Endpoint, lastEvent time.Time) (Report, error)
}

// A Report is what a provider says about an endpoint.
type Report struct {
	Settings map[string]string // of the endpoint, as the provider reports them now
	Fault    string            // why the endpoint does not work, in the provider's words; empty if it does
	Warnings []string          // what staff should know although it works

	// RepairInterval is the shortest time between two attempts to correct the report with Connect.
	// If it is zero, Connect cannot.
	RepairInterval time.Duration
}

// The intervals of repairs. A webhook that is missing or that has an earlier URL of the gateway is set
// again soon. One of another program is replaced at most once a day, so that two programs do not
// replace the webhooks of each other all the time.
const (
	RepairOwn     = time.Minute
	RepairMissing = time.Hour
	RepairForeign = 24 * time.Hour
)

// JudgeWebhook returns what it means that the provider has the URL got where it should have want: the
// fault, and how often it may be corrected. If they are equal, it returns "" and zero.
func JudgeWebhook(got, want string) (fault string, repair time.Duration) {
	switch {
	case got == want:
		return "", 0
	case got == "":
		return "The provider has no webhook for this channel.", RepairMissing
	}
	fault = "The provider has the webhook of another program or address: " + Origin(got) + "."
	g, err := url.Parse(got)
	w, wantErr := url.Parse(want)
	if err == nil && wantErr == nil && w.Path != "" && strings.HasSuffix(g.Path, lastSegments(w.Path, 3)) {
		return fault, RepairOwn // the ID of the instance is unique: another public URL of this gateway
	}
	return fault, RepairForeign
}

// lastSegments returns the last n segments of a path, each with its slash.
func lastSegments(p string, n int) string {
	i := len(p)
	for ; n > 0 && i > 0; n-- {
		i = strings.LastIndexByte(p[:i], '/')
	}
	return p[max(i, 0):]
}

// Origin returns scheme and host of a URL, and an ellipsis for the rest. The URLs of other programs
// are not shown completely, because their paths often contain secrets.
func Origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an unreadable address"
	}
	return Sanitize(u.Scheme+"://"+u.Host, maxOrigin) + "/…"
}

const maxOrigin = 200 // bytes
