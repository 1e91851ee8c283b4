//go:build unix

package main

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// A hookLog keeps how every webhook of every provider was answered.
type hookLog struct {
	mu  sync.Mutex
	all []loggedAnswer
}

// A loggedAnswer is the answer to one webhook; a status of 0 says that there was none.
type loggedAnswer struct {
	channel      string
	status       int
	began, ended time.Time
}

func (a loggedAnswer) took() time.Duration { return a.ended.Sub(a.began) }

// taken reports whether the provider forgets the message with this answer.
func (a loggedAnswer) taken() bool { return a.status/100 == 2 }

// transport gives a way for the webhooks of a channel that keeps the answers.
func (l *hookLog) transport(t *testing.T, channel string) http.RoundTripper {
	way := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(way.CloseIdleConnections)
	return noting{l, channel, way}
}

type noting struct {
	log     *hookLog
	channel string
	way     http.RoundTripper
}

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	a := loggedAnswer{channel: n.channel, began: time.Now()}
	res, err := n.way.RoundTrip(r)
	a.ended = time.Now()
	if err == nil {
		a.status = res.StatusCode
	}
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	n.log.all = append(n.log.all, a)
	return res, err
}

// between gives the answers to webhooks that were posted and answered in a time.
func (l *hookLog) between(from, to time.Time) (found []loggedAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.all {
		if a.began.After(from) && a.ended.Before(to) {
			found = append(found, a)
		}
	}
	return found
}

// begun gives the answers to webhooks that were posted in a time, whenever answered.
func (l *hookLog) begun(from, to time.Time) (found []loggedAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.all {
		if a.began.After(from) && a.began.Before(to) {
			found = append(found, a)
		}
	}
	return found
}

// firstTaken gives when the first webhook of a channel was taken after a time.
func (l *hookLog) firstTaken(channel string, after time.Time) (first time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.all {
		if a.channel == channel && a.taken() && a.ended.After(after) && (!ok || a.ended.Before(first)) {
			first, ok = a.ended, true
		}
	}
	return first, ok
}
