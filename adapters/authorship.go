package adapters

// An UnprovenReason says in one word why a message does not prove that its sender wrote it. The
// empty reason means that the sender wrote it now, in this chat, with their own account. The values
// are stored with messages.
type UnprovenReason string

// Words that someone or something else wrote.
const (
	UnprovenForwarded UnprovenReason = "forwarded" // passed on from elsewhere, with or without a comment
	UnprovenViaBot    UnprovenReason = "via_bot"   // composed by a bot that the sender used
	UnprovenViaApp    UnprovenReason = "via_app"   // posted by an app that acts for the sender
	UnprovenScheduled UnprovenReason = "scheduled" // sent automatically, such as an away message
	UnprovenChannel   UnprovenReason = "channel"   // posted in a channel, or copied from one
	UnprovenBot       UnprovenReason = "bot"       // the sender is a bot
)

// Words whose author the channel does not report.
const (
	UnprovenLog          UnprovenReason = "log"          // from a log that does not mark forwarded messages
	UnprovenAnonymous    UnprovenReason = "anonymous"    // the sender is hidden
	UnprovenShortCode    UnprovenReason = "short_code"   // the number of a service, not of a person
	UnprovenAlphanumeric UnprovenReason = "alphanumeric" // a name that any sender can set
)

// Words of the sender that nevertheless prove nothing.
const (
	UnprovenEdited       UnprovenReason = "edited"        // a new version of an earlier message
	UnprovenCaption      UnprovenReason = "caption"       // of a file
	UnprovenExternal     UnprovenReason = "external"      // the sender belongs to another organization
	UnprovenBusiness     UnprovenReason = "business"      // in a chat that the bot reads for a business
	UnprovenScopedID     UnprovenReason = "scoped_id"     // only in messages that earlier versions stored
	UnprovenOtherChannel UnprovenReason = "other_channel" // a Messaging Service mixes channels
)

// An Author is who wrote the words of a message, as far as the channel says.
type Author string

// The authors of messages.
const (
	AuthorSender  Author = "sender"  // the sender wrote all of them, in this message
	AuthorOther   Author = "other"   // someone or something else wrote at least a part of them
	AuthorUnknown Author = "unknown" // the channel does not report it
)

// A Via is what wrote or sent a message in place of its sender.
type Via string

// What messages are sent via.
const (
	ViaBot       Via = "bot"       // an inline bot
	ViaApp       Via = "app"       // an app with the right to post as the sender
	ViaAutomatic Via = "automatic" // a schedule or an automatic reply
)

// authorships has a row for each reason that means that the sender may not be the author.
var authorships = map[UnprovenReason]struct {
	author Author
	via    Via
}{
	UnprovenForwarded:    {AuthorOther, ""},
	UnprovenViaBot:       {AuthorOther, ViaBot},
	UnprovenViaApp:       {AuthorOther, ViaApp},
	UnprovenScheduled:    {AuthorOther, ViaAutomatic},
	UnprovenChannel:      {AuthorOther, ViaAutomatic},
	UnprovenBot:          {AuthorOther, ViaBot},
	UnprovenLog:          {AuthorUnknown, ""},
	UnprovenAnonymous:    {AuthorUnknown, ""},
	UnprovenShortCode:    {AuthorUnknown, ""},
	UnprovenAlphanumeric: {AuthorUnknown, ""},
}

// WrittenBy returns who wrote the words of m. It returns AuthorSender only if m names its sender and
// the channel says that the words are the sender's own.
func (m Message) WrittenBy() Author {
	if a, ok := authorships[m.UnprovenReason]; ok {
		return a.author
	}
	if m.Sender.ID == "" {
		return AuthorUnknown
	}
	return AuthorSender
}

// Forwarded reports whether m, or a part of it, was written elsewhere and passed on by its sender.
func (m Message) Forwarded() bool { return m.UnprovenReason == UnprovenForwarded }

// Via returns what wrote or sent m in place of its sender, or "" if nothing is known to have.
func (m Message) Via() Via { return authorships[m.UnprovenReason].via }
