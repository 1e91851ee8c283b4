package operation

import (
	"cmp"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hydragate/identity"
)

// MaxTokenBytes is the maximum length of an API key.
const MaxTokenBytes = 512

// A RateLimiter limits the request rate of each key. The zero value is usable; it must not be
// copied after first use.
type RateLimiter struct {
	Rate  float64          // requests per second of keys without a rate of their own; default: identity.DefaultRateLimit
	Burst int              // of these keys; default: twice the rate
	Now   func() time.Time // default: time.Now

	mu       sync.Mutex
	limiters map[string]*rate.Limiter
}

// maxRateLimiters bounds the memory of a RateLimiter. When it is reached, all keys start with a
// full burst again.
const maxRateLimiters = 10_000

// Take consumes one request of the key's budget, which allows perSecond requests and bursts of twice
// that, or the defaults if perSecond is 0. If the budget is spent, it returns a problem with status
// 429 and the time to wait.
func (l *RateLimiter) Take(key string, perSecond int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limiters == nil || len(l.limiters) >= maxRateLimiters {
		l.limiters = map[string]*rate.Limiter{}
	}
	limit, burst := float64(perSecond), 2*perSecond
	if perSecond == 0 {
		limit = cmp.Or(l.Rate, identity.DefaultRateLimit)
		burst = cmp.Or(l.Burst, int(2*limit))
	}
	now := time.Now()
	if l.Now != nil {
		now = l.Now()
	}
	b := l.limiters[key]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(limit), burst)
		l.limiters[key] = b
	}
	if b.AllowN(now, 1) {
		return nil
	}
	missing := 1 - b.TokensAt(now)
	return TooManyRequests(time.Duration(missing / limit * float64(time.Second)))
}
