package harness

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// A webhookLog keeps how every webhook of every provider was answered.
type webhookLog struct {
	Mu      sync.Mutex
	Results []webhookResult
}

// A webhookResult is the answer to one webhook; a status of 0 says that there was none.
type webhookResult struct {
	Channel        string
	Status         int
	started, Ended time.Time
}

func (a webhookResult) Duration() time.Duration { return a.Ended.Sub(a.started) }

// Accepted reports whether the provider forgets the message with this answer.
func (a webhookResult) Accepted() bool { return a.Status/100 == 2 }

// transport gives a way for the webhooks of a channel that keeps the answers.
func (l *webhookLog) transport(t *testing.T, channel string) http.RoundTripper {
	way := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(way.CloseIdleConnections)
	return loggingTransport{l, channel, way}
}

type loggingTransport struct {
	log     *webhookLog
	channel string
	next    http.RoundTripper
}

func (n loggingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	a := webhookResult{Channel: n.channel, started: time.Now()}
	res, err := n.next.RoundTrip(r)
	a.Ended = time.Now()
	if err == nil {
		a.Status = res.StatusCode
	}
	n.log.Mu.Lock()
	defer n.log.Mu.Unlock()
	n.log.Results = append(n.log.Results, a)
	return res, err
}

// CompletedBetween gives the answers to webhooks that were posted and answered in a time.
func (l *webhookLog) CompletedBetween(from, to time.Time) (found []webhookResult) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	for _, a := range l.Results {
		if a.started.After(from) && a.Ended.Before(to) {
			found = append(found, a)
		}
	}
	return found
}

// StartedBetween gives the answers to webhooks that were posted in a time, whenever answered.
func (l *webhookLog) StartedBetween(from, to time.Time) (found []webhookResult) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	for _, a := range l.Results {
		if a.started.After(from) && a.started.Before(to) {
			found = append(found, a)
		}
	}
	return found
}

// firstAccepted gives when the first webhook of a channel was taken after a time.
func (l *webhookLog) firstAccepted(channel string, after time.Time) (first time.Time, ok bool) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	for _, a := range l.Results {
		if a.Channel == channel && a.Accepted() && a.Ended.After(after) && (!ok || a.Ended.Before(first)) {
			first, ok = a.Ended, true
		}
	}
	return first, ok
}
