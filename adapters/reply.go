package adapters

// A Reply is one message to a person. Its text is plain, not empty, and within the Limits of the
// channel.
type Reply struct {
	ID      string // the gateway's ID, the same for all attempts
	Chat    Chat
	To      string // external ID of the person
	Text    string
	ReplyTo string // ProviderID of the message that this one replies to

	// OtherIDs are the channel's IDs of other replies with the same text in the same chat. None of them
	// is this one.
	OtherIDs []string

	// MaybeSent reports that an earlier attempt may have reached the channel. An adapter that can
	// look up sent messages does so before it sends the reply.
	MaybeSent bool

	// StatusURL is where the channel may post receipts. It is empty if none are wanted.
	StatusURL string
}

// A Receipt is a report of the channel about a reply. Receipts may be repeated and out of order;
// Status.Rank orders them.
type Receipt struct {
	ProviderID string
	Status     Status
	Code       string // the channel's error code, if Status is Failed

	// Gone reports that the account or number no longer exists and may be reassigned to another
	// person.
	Gone bool `json:",omitempty"`

	// OptedOut reports that the person unsubscribed at the carrier or the provider.
	OptedOut bool `json:",omitempty"`
}

// A Status is the delivery state of a reply.
type Status string

// The states of a reply. Unknown means that the channel may or may not have accepted it.
const (
	Queued    Status = "queued"
	Sent      Status = "sent"
	Delivered Status = "delivered"
	Failed    Status = "failed"
	Unknown   Status = "unknown"
)

// Rank orders the states that a channel reports. A status replaces only a status of lower rank.
func (s Status) Rank() int {
	switch s {
	case Unknown:
		return 1
	case Sent:
		return 2
	case Delivered, Failed:
		return 3
	default:
		return 0
	}
}
