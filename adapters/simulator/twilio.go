package simulator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Twilio simulates Twilio: the part of its REST API that a messaging gateway uses, and its webhook
// client. Like Twilio, it signs webhooks, retries them as the fragment of the URL says, then tries
// the fallback URL, and sends the body of a text/plain response to the person. Unlike Twilio, it
// posts to http URLs and to loopback addresses.
//
// Addresses are written as Twilio writes them: a number for SMS, "whatsapp:" and a number for
// WhatsApp. So are the chats of the transcript. The names of calls for Arm are Accounts.fetch,
// IncomingPhoneNumbers.list, IncomingPhoneNumbers.fetch, IncomingPhoneNumbers.update,
// Messages.create, Messages.list, Media.list, Services.list, Services.PhoneNumbers.fetch,
// Services.ChannelSenders.fetch, Senders.list and Senders.update.
//
// A Twilio is made with NewTwilio and is an http.Handler. It is safe for concurrent use.
type Twilio struct {
	Transcript
	Faults

	// WebhookClient posts webhooks. It may be replaced before the first message.
	WebhookClient *http.Client

	// OutOfOrder reverses the order of the status callbacks of a message. It must be set before
	// the first message.
	OutOfOrder bool

	mu           sync.Mutex
	tokens       map[string]string // by account
	secondary    map[string]string // auth tokens that the API accepts too, by account
	statuses     map[string]string // of accounts that are not active
	numbers      []*twilioNumber
	services     []*twilioService
	messages     []*twilioMessage // oldest first
	optedOut     map[string]bool  // by conversation
	lastInbound  map[string]time.Time
	failureCodes map[string]int // by recipient
	deliveries   map[string]*twilioDelivery

	ctx     context.Context //nolint:containedctx // of the deliveries; canceled by Close
	stop    context.CancelFunc
	posting sync.WaitGroup
}

// A twilioNumber is a phone number or a WhatsApp sender.
type twilioNumber struct {
	account, sid, address string
	offline               string // why a WhatsApp sender is offline; empty if it is not
	smsURL, smsMethod     string
	statusURL             string // of a WhatsApp sender
	fallbackURL           string
	fallbackMethod        string
	application           string
}

// A twilioService is a Messaging Service.
type twilioService struct {
	account, sid, url string
	useNumber         bool
	addresses         []string
}

// NewTwilio returns a Twilio without accounts.
func NewTwilio() *Twilio {
	ctx, stop := context.WithCancel(context.Background())
	return &Twilio{
		WebhookClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tokens:       map[string]string{},
		secondary:    map[string]string{},
		statuses:     map[string]string{},
		optedOut:     map[string]bool{},
		lastInbound:  map[string]time.Time{},
		failureCodes: map[string]int{},
		deliveries:   map[string]*twilioDelivery{},
		ctx:          ctx,
		stop:         stop,
	}
}

// Close cancels running webhooks and waits until they have returned. No webhook is posted after it.
func (t *Twilio) Close() {
	t.mu.Lock()
	t.stop()
	t.mu.Unlock()
	t.posting.Wait()
}

// AddAccount adds an account with its auth token. On Twilio, an account SID is "AC" and 32
// hexadecimal digits.
func (t *Twilio) AddAccount(sid, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens[sid] = token
}

// RotateToken replaces the auth token of an account: the API accepts only the new one, and webhooks
// are signed with it.
func (t *Twilio) RotateToken(account, token string) { t.AddAccount(account, token) }

// AddSecondaryToken adds a secondary auth token to an account. The API accepts it; webhooks are signed
// with the primary one.
func (t *Twilio) AddSecondaryToken(account, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secondary[account] = token
}

// credentials returns the account of an address and its auth token.
func (t *Twilio) credentials(address string) (account, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.findNumber(address); n != nil {
		account = n.account
	}
	return account, t.tokens[account]
}

func (t *Twilio) secondaryToken(account string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.secondary[account]
}

// AddNumber adds a phone number that can send and receive SMS to an account. It returns the SID of
// the number.
func (t *Twilio) AddNumber(account, number string) (sid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := &twilioNumber{
		account: account, sid: newTwilioSID("PN"), address: number,
		smsMethod: http.MethodPost, fallbackMethod: http.MethodPost,
	}
	t.numbers = append(t.numbers, n)
	return n.sid
}

// SetAccountStatus sets the status of an account, such as "suspended" or "active".
func (t *Twilio) SetAccountStatus(account, status string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.statuses[account] = status
}

// SetWhatsAppURL makes a number a WhatsApp sender of the account and sets its webhook to u and its
// fallback URL to fallback.
func (t *Twilio) SetWhatsAppURL(account, number, u, fallback string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	address := whatsAppPrefix + strings.TrimPrefix(number, whatsAppPrefix)
	n := t.findNumber(address)
	if n == nil {
		n = &twilioNumber{address: address, sid: newTwilioSID("XE")}
		t.numbers = append(t.numbers, n)
	}
	n.account, n.smsURL, n.fallbackURL = account, u, fallback
}

// AddService adds a Messaging Service with numbers of an account and returns its SID. Messages to
// these numbers are posted to u. If u is empty, they are posted to the webhook of the number.
func (t *Twilio) AddService(account, u string, numbers ...string) (sid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &twilioService{account: account, sid: newTwilioSID("MG"), url: u, useNumber: u == "", addresses: numbers}
	t.services = append(t.services, s)
	return s.sid
}

// RemoveServices removes all Messaging Services of an account.
func (t *Twilio) RemoveServices(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.services = slices.DeleteFunc(t.services, func(s *twilioService) bool { return s.account == account })
}

// SetOffline takes a WhatsApp sender offline for a reason, or online again if reason is empty.
func (t *Twilio) SetOffline(number, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.findNumber(whatsAppPrefix + number); n != nil {
		n.offline = reason
	}
}

// FailMessages makes messages to an address undeliverable: the API accepts them, and the last status
// callback is "undelivered" with the error code.
func (t *Twilio) FailMessages(address string, code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failureCodes[address] = code
}

// Webhook returns the webhook and the fallback URL of a number.
func (t *Twilio) Webhook(number string) (u, fallback string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.findNumber(number); n != nil {
		return n.smsURL, n.fallbackURL
	}
	return "", ""
}

// SetWebhook sets the webhook and the fallback URL of a number, as in Twilio's console.
func (t *Twilio) SetWebhook(number, u, fallback string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.findNumber(number); n != nil {
		n.smsURL, n.fallbackURL = u, fallback
	}
}

// OptedOut reports whether a person has opted out of messages from a number.
func (t *Twilio) OptedOut(person, number string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.optedOut[conversationKey(person, number)]
}

// findNumber returns the number with this address, or nil. The caller must hold t.mu.
func (t *Twilio) findNumber(address string) *twilioNumber {
	for _, n := range t.numbers {
		if n.address == address {
			return n
		}
	}
	return nil
}

// findService returns the Messaging Service that contains an address, or nil. The caller must hold
// t.mu.
func (t *Twilio) findService(address string) *twilioService {
	for _, s := range t.services {
		if slices.Contains(s.addresses, address) {
			return s
		}
	}
	return nil
}

const whatsAppPrefix = "whatsapp:"

func isWhatsApp(address string) bool { return strings.HasPrefix(address, whatsAppPrefix) }

func conversationKey(person, number string) string { return person + "\n" + number }

func newTwilioSID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}
