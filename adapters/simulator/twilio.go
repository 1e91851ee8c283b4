package simulator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Twilio is a pretend Twilio: the part of its REST API that a messaging gateway
// uses, and the webhook client that it is. It signs what it posts, tries again as
// the fragment of a URL says, turns to the fallback URL, and sends a webhook's
// answer in text/plain to the person, as the original does. As the original does
// not, it posts to http and to loopback.
//
// An address is spelled as Twilio spells it: a number on SMS, "whatsapp:" and a
// number on WhatsApp; so are the chats of the transcript. Faults hit calls by these
// names: Accounts.fetch, IncomingPhoneNumbers.list, IncomingPhoneNumbers.fetch,
// IncomingPhoneNumbers.update, Messages.create, Messages.list, Media.list,
// Services.list, Services.PhoneNumbers.fetch.
//
// Make one with NewTwilio and serve it where you like; it is safe for concurrent
// use.
type Twilio struct {
	Transcript
	Faults

	// WebhookClient posts to webhooks. It may be replaced before the first message.
	WebhookClient *http.Client

	// OutOfOrder makes the status callbacks of a message come in reverse. It is set
	// before the first message.
	OutOfOrder bool

	mu           sync.Mutex
	tokens       map[string]string // by account
	numbers      []*twilioNumber
	services     []*twilioService
	messages     []*twilioMessage // oldest first
	optedOut     map[string]bool  // by conversation
	lastInbound  map[string]time.Time
	failureCodes map[string]int // by recipient
	deliveries   map[string]*twilioDelivery

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	posting sync.WaitGroup
}

// A twilioNumber is a sender: a phone number, or a WhatsApp sender, which the API
// does not list.
type twilioNumber struct {
	account, sid, address string
	smsURL, smsMethod     string
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

// NewTwilio gives a Twilio without accounts.
func NewTwilio() *Twilio {
	ctx, stop := context.WithCancel(context.Background())
	return &Twilio{
		WebhookClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		tokens:        map[string]string{},
		optedOut:      map[string]bool{},
		lastInbound:   map[string]time.Time{},
		failureCodes:  map[string]int{},
		deliveries:    map[string]*twilioDelivery{},
		ctx:           ctx,
		stop:          stop,
	}
}

// Close stops every webhook and waits until none runs.
func (t *Twilio) Close() {
	t.mu.Lock()
	t.stop()
	t.mu.Unlock()
	t.posting.Wait()
}

// AddAccount opens an account, such as "AC" and 32 hexadecimal digits, with its auth
// token.
func (t *Twilio) AddAccount(sid, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens[sid] = token
}

// RotateToken gives an account another auth token: from now on the API takes that
// one only, and webhooks are signed with it.
func (t *Twilio) RotateToken(account, token string) { t.AddAccount(account, token) }

// AddNumber gives an account a phone number that can send and receive SMS. It gives
// the SID of the number.
func (t *Twilio) AddNumber(account, number string) (sid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := &twilioNumber{account: account, sid: newTwilioSID("PN"), address: number, smsMethod: http.MethodPost, fallbackMethod: http.MethodPost}
	t.numbers = append(t.numbers, n)
	return n.sid
}

// SetWhatsAppURL makes a number a WhatsApp sender of the account that posts its
// messages to u, and to fallback what u does not take. On the original this is done
// in the console.
func (t *Twilio) SetWhatsAppURL(account, number, u, fallback string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	address := whatsAppPrefix + strings.TrimPrefix(number, whatsAppPrefix)
	n := t.findNumber(address)
	if n == nil {
		n = &twilioNumber{address: address}
		t.numbers = append(t.numbers, n)
	}
	n.account, n.smsURL, n.fallbackURL = account, u, fallback
}

// AddService puts numbers of an account into a Messaging Service, and gives its SID.
// Their messages are posted to u; with an empty one, to the URL of the number
// written to.
func (t *Twilio) AddService(account, u string, numbers ...string) (sid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &twilioService{account: account, sid: newTwilioSID("MG"), url: u, useNumber: u == "", addresses: numbers}
	t.services = append(t.services, s)
	return s.sid
}

// FailMessages makes the messages to an address end as "undelivered" with an error code.
// They are taken, and a status callback tells.
func (t *Twilio) FailMessages(address string, code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failureCodes[address] = code
}

// Webhook gives the URLs that a number posts its messages to.
func (t *Twilio) Webhook(number string) (u, fallback string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.findNumber(number); n != nil {
		return n.smsURL, n.fallbackURL
	}
	return "", ""
}

// SetWebhook sets the URLs of a number, as somebody does in Twilio's console.
func (t *Twilio) SetWebhook(number, u, fallback string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.findNumber(number); n != nil {
		n.smsURL, n.fallbackURL = u, fallback
	}
}

// OptedOut reports whether a person has told a number to stop.
func (t *Twilio) OptedOut(person, number string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.optedOut[conversationKey(person, number)]
}

// findNumber gives the sender with this address, or nil; t.mu is held.
func (t *Twilio) findNumber(address string) *twilioNumber {
	for _, n := range t.numbers {
		if n.address == address {
			return n
		}
	}
	return nil
}

// findService gives the service an address belongs to, or nil; t.mu is held.
func (t *Twilio) findService(address string) *twilioService {
	for _, s := range t.services {
		for _, a := range s.addresses {
			if a == address {
				return s
			}
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
