package claim

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"hydragate/identity"
)

const (
	// OwnerConfirmationTime is the time for which a claim waits for an owner, by the database's clock.
	OwnerConfirmationTime = 10 * time.Minute
	// MaxAnswerTries is the number of answers with a wrong number that refuse a waiting claim.
	MaxAnswerTries = 5
)

// A Request is a claim that waits for a verified owner of the customer. The code has been redeemed,
// and nothing is granted until an owner repeats the number in a chat of their own.
type Request struct {
	ID     string
	Target Target // the code, which is used by MessageID
	Number string // six digits

	// The message with the code, and its conversation.
	MessageID      string
	InstanceID     string
	ConversationID string

	Tries               int                  // answers with a wrong number
	LinkedConversations []LinkedConversation // of the customer's other verified identities
	MaskedName          string               // of the customer
	ChatID              string
	AgentURL            string // of the instance
	OwnersAsked         []LinkedConversation
}

// An Answer is the answer of an owner to a Request.
type Answer struct {
	Request     Request
	OwnerID     string // identity of the owner who answered
	Agreed      bool
	WrongNumber bool // the answer only counts as a try
}

// newNumber returns a random number of six digits.
func newNumber() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return fmt.Sprintf("%06d", n)
}

// ask makes a claim with the right code wait for an owner.
func (s CodeState) ask(r *Decision, a Attempt) {
	r.Outcome = AwaitingOwner
	q := Request{
		Target: s.Target, Number: newNumber(), MessageID: a.MessageID, InstanceID: a.InstanceID,
	}
	for _, c := range s.LinkedConversations {
		if c.Owner {
			q.OwnersAsked = append(q.OwnersAsked, c)
		}
	}
	e := s.event("claim.confirmation_requested", a, "")
	e.Detail["owners_asked"] = fmt.Sprint(len(q.OwnersAsked))
	r.Ask, r.Events, r.LinkedConversations = &q, append(r.Events, e), nil
}

// DecideAnswer decides the answer of an owner, whose identity and message are those of a, to the
// claims that wait for the owners of the customer. ok is false if none does; the answer is then an
// ordinary message.
func (d *Service) DecideAnswer(
	ctx context.Context, a Attempt, customerID, number string, agreed bool,
) (r Decision, ok bool, err error) {
	requests, err := d.Store.Requests(ctx, a, customerID)
	if err != nil {
		return Decision{}, false, fmt.Errorf("read waiting claims: %w", err)
	}
	if len(requests) == 0 {
		return Decision{}, false, nil
	}
	answer := Answer{Request: requests[0], OwnerID: a.IdentityID, Agreed: agreed, WrongNumber: true}
	for _, q := range requests {
		if q.Number == number {
			answer.Request, answer.WrongNumber = q, false
		}
	}
	r = Decision{Attempt: a, Answer: &answer}
	refused := answer.WrongNumber && answer.Request.Tries+1 >= MaxAnswerTries || !answer.WrongNumber && !agreed
	switch {
	case refused:
		r.Outcome = Refused
		answer.Agreed, answer.WrongNumber = false, false
		r.Events = append(r.Events, answer.event("claim.refused_by_owner", a, customerID))
	case answer.WrongNumber:
		r.Outcome = WrongNumber
	default:
		r.Outcome = Confirmed
		r.Events = append(r.Events,
			answer.event("claim.confirmed_by_owner", a, customerID), answer.event("claim.redeemed", a, customerID))
	}
	return r, true, nil
}

// event returns an event about the claim that was answered.
func (w Answer) event(kind string, a Attempt, customerID string) identity.Event {
	q := w.Request
	e := identity.Event{
		TenantID: a.TenantID, Kind: kind, Actor: identity.Actor("sender:" + w.OwnerID), CustomerID: customerID,
		IdentityID: q.Target.IdentityID, InstanceID: q.InstanceID, MessageID: q.MessageID,
		Detail: map[string]string{"channel": q.Target.Channel},
	}
	if kind == "claim.redeemed" {
		e.Actor = identity.Actor("sender:" + q.Target.IdentityID)
	}
	return e
}
