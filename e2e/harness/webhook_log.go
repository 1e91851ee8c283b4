//go:build unix

package harness

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A webhookLog records the responses to all webhooks.
type webhookLog struct {
	Mu      sync.Mutex
	Results []webhookResult
}

// A webhookResult is the response to a webhook. Status is 0 if there was none.
type webhookResult struct {
	Channel        string
	Status         int
	started, Ended time.Time
	canceled       bool // by the provider
}

// Duration returns the time until the response.
func (a webhookResult) Duration() time.Duration { return a.Ended.Sub(a.started) }

// Accepted reports whether the message was acknowledged.
func (a webhookResult) Accepted() bool { return a.Status/100 == 2 }

// transport returns a transport that records the webhooks of a channel.
func (l *webhookLog) transport(t *testing.T, channel string) http.RoundTripper {
	next := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(next.CloseIdleConnections)
	return loggingTransport{l, channel, next}
}

type loggingTransport struct {
	log     *webhookLog
	channel string
	next    http.RoundTripper
}

func (n loggingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	a := webhookResult{Channel: n.channel, started: time.Now()}
	res, err := n.next.RoundTrip(r)
	a.Ended, a.canceled = time.Now(), errors.Is(err, context.Canceled)
	if err == nil {
		a.Status = res.StatusCode
	}
	n.log.Mu.Lock()
	defer n.log.Mu.Unlock()
	n.log.Results = append(n.log.Results, a)
	return res, err
}

// CompletedBetween returns the webhooks that started and ended in an interval.
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

// failed returns the webhooks that were not accepted. Those that the provider canceled are left out.
func (l *webhookLog) failed() (found []webhookResult) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	for _, a := range l.Results {
		if !a.Accepted() && !a.canceled {
			found = append(found, a)
		}
	}
	return found
}

// StartedBetween returns the webhooks that started in an interval.
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

// firstAccepted returns when the first webhook of a channel was accepted after a time.
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
