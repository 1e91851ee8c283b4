package httpapi

import (
	"context"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// Store is what the API keeps its resources in. Everything is keyed by tenant first:
// a row of another tenant is not found. Lists are in order of id, which is order of
// creation, start after the id given ("" from the first), and hold at most limit rows.
// A change writes its audit event in its own transaction, in the name of the actor.
type Store interface {
	Ping(ctx context.Context) error
	Migrated(ctx context.Context) error

	// APIKey gives the key whose token hashes to hash, live or not; identity.ErrNotFound.
	APIKey(ctx context.Context, hash string) (identity.APIKey, error)
	// TouchAPIKey notes that a key was used.
	TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error
	// What is created gets a new id, or the one it comes with: then, when it is there
	// already, the same call was made before and nobody heard its answer. It stays as it
	// is, and secrets that were never handed out are replaced by those given.

	// CreateAPIKey keeps a key; its token hashes to hash.
	CreateAPIKey(ctx context.Context, k identity.APIKey, hash string, by identity.Actor) (identity.APIKey, error)
	ListAPIKeys(ctx context.Context, tenant, after string, limit int) ([]identity.APIKey, error)
	// RotateAPIKey makes a copy of a key under the id, hash and hint of next, and lets the
	// old one expire at oldUntil.
	RotateAPIKey(ctx context.Context, tenant, id string, next identity.APIKey, hash string, oldUntil time.Time, by identity.Actor) (identity.APIKey, error)
	RevokeAPIKey(ctx context.Context, tenant, id string, by identity.Actor) error

	// CreateCustomer keeps a customer; identity.ErrEmailTaken.
	CreateCustomer(ctx context.Context, c identity.Customer, by identity.Actor) (identity.Customer, error)
	Customer(ctx context.Context, tenant, id string) (identity.Customer, error)
	EditCustomer(ctx context.Context, tenant, id string, e identity.CustomerEdit, by identity.Actor) (identity.Customer, error)
	ListCustomers(ctx context.Context, tenant string, q identity.CustomerQuery, after string, limit int) ([]identity.Customer, error)

	// DeleteCustomer removes a customer with its identities and what would undo merges
	// into it; conversations stay, with nobody. EraseCustomer also removes all personal
	// data, of a customer deleted before too. Both give whose proofs are void now, and
	// identity.ErrNotFound when there is nothing to remove.
	DeleteCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error)
	EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) (void []claim.Target, err error)
	// MergeCustomer gives the identities of one customer to another and puts the first
	// one aside. What is verified or an owner comes along only with mayGrant; otherwise
	// identity.ErrNeedsGrant. identity.ErrNotFound when either is not there.
	MergeCustomer(ctx context.Context, tenant, id, into string, mayGrant bool, by identity.Actor) (identity.Merge, error)
	// UndoMerge brings a merged customer back, with what moved and still belongs to whom
	// it was merged into. identity.ErrNotFound, identity.ErrReclaimed, and
	// identity.ErrNeedsGrant as in a merge.
	UndoMerge(ctx context.Context, tenant, id string, mayGrant bool, by identity.Actor) (identity.Customer, error)
	// Survivor gives the customer that a merged one is now; identity.ErrNotFound.
	MergedInto(ctx context.Context, tenant, id string) (string, error)

	// CustomerHistory tells which addresses a customer owned when, oldest first.
	CustomerHistory(ctx context.Context, tenant, customer string) ([]identity.Ownership, error)
	// CustomerTalks gives the conversations in which a customer speaks, of one instance
	// when it is not "".
	CustomerConversations(ctx context.Context, tenant, customer, instance string) ([]gateway.CustomerConversation, error)
	// Received and Replies give the messages of a talk from and to the customer, in
	// order, after the Seq given.
	ReceivedMessages(ctx context.Context, t gateway.CustomerConversation, after int64, limit int) ([]gateway.ReceivedMessage, error)
	SentMessages(ctx context.Context, t gateway.CustomerConversation, after int64, limit int) ([]gateway.SentMessage, error)

	// Invites lists the invites of a customer, RevokeInvite ends one; both of one instance
	// when it is not "". identity.ErrNotFound, claim.ErrInviteUsed.
	Invites(ctx context.Context, tenant, customer, instance, after string, limit int) ([]claim.Invite, error)
	RevokeInvite(ctx context.Context, tenant, customer, instance, id string, by identity.Actor) error

	// AddressOf gives the address of an identity, also of one that is gone;
	// identity.ErrNotFound. History tells who owned an address when, oldest first.
	IdentityAddress(ctx context.Context, tenant, id string) (identity.Address, error)
	AddressHistory(ctx context.Context, a identity.Address) ([]identity.Ownership, error)
	// Refuse has the messages of an unknown sender dropped, of one instance when it is
	// not "", and gives since when; Admit takes that back. identity.ErrNotFound,
	// identity.ErrTaken for an identity of a customer.
	BlockSender(ctx context.Context, tenant, instance, id string, by identity.Actor) (since time.Time, err error)
	UnblockSender(ctx context.Context, tenant, instance, id string, by identity.Actor) error

	// AuditEvents gives events of the audit log, newest first, after the one whose id is
	// before ("" from the newest).
	AuditEvents(ctx context.Context, tenant string, q identity.EventQuery, before string, limit int) ([]identity.Event, error)

	// Lookup finds whose address it is, an identity of the instance itself before one
	// of all instances; identity.ErrNotFound also for an unknown sender's.
	Lookup(ctx context.Context, a identity.Address) (i identity.Identity, customerEmail string, err error)
	// CustomerIdentities gives all identities of a customer, oldest first, of one
	// channel when it is not ""; identity.ErrNotFound for an unknown customer.
	CustomerIdentities(ctx context.Context, tenant, customer, channel string) ([]identity.Identity, error)
	// Link keeps a new identity, unverified. An unknown sender's row of the same
	// address within its scope is adopted instead, with its conversations; others of
	// that address within the scope are merged into it. identity.ErrTaken,
	// identity.ErrNotFound (customer), identity.ErrNoInstance.
	Link(ctx context.Context, i identity.Identity, by identity.Actor) (identity.Identity, error)
	// Adopt links an unknown sender to a customer: one of two at once wins, the other
	// gets identity.ErrTaken.
	Adopt(ctx context.Context, tenant, customer, id string, by identity.Actor) (identity.Identity, error)
	Identity(ctx context.Context, tenant, customer, id string) (identity.Identity, error)
	// EditIdentity changes an identity of a customer. Setting verified to false ends a
	// live claim code.
	EditIdentity(ctx context.Context, tenant, customer, id string, e identity.Edit, by identity.Actor) (identity.Identity, error)
	// Unlink removes an identity of a customer; the audit log keeps whose it was.
	Unlink(ctx context.Context, tenant, customer, id string, by identity.Actor) error
	// UnknownSenders lists identities that belong to nobody, of one instance when it is
	// not "".
	UnknownSenders(ctx context.Context, tenant, instance, after string, limit int) ([]identity.Identity, error)

	CreateInstance(ctx context.Context, i gateway.Instance, s gateway.InstanceSecrets, by identity.Actor) (gateway.Instance, error)
	Instance(ctx context.Context, tenant, id string) (gateway.Instance, error)
	EditInstance(ctx context.Context, tenant, id string, e gateway.InstanceEdit, by identity.Actor) (gateway.Instance, error)
	ListInstances(ctx context.Context, tenant, after string, limit int) ([]gateway.Instance, error)
	// RotateInstanceSecret puts a new secret in the place of one. The old one stays good
	// for overlap, until the time given; with none it ends now, and so do those before.
	RotateInstanceSecret(ctx context.Context, tenant, id string, kind gateway.SecretKind, secret string, overlap time.Duration, by identity.Actor) (until time.Time, err error)
	// EndRetiredSecrets ends the secrets that were replaced now.
	RevokePreviousSecrets(ctx context.Context, tenant, id string, kind gateway.SecretKind, by identity.Actor) error
	// DeleteInstance removes an instance with its endpoints, conversations and scoped
	// identities.
	DeleteInstance(ctx context.Context, tenant, id string, by identity.Actor) error

	// Remember claims an idempotency key for a call. The first caller gets found false and
	// the id of what it creates, and must end it with Answered or Forget; later callers get
	// what it answered. After Forget the same call may be made again, with the same id.
	ReserveIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) (a gateway.StoredResponse, found bool, err error)
	SaveResponse(ctx context.Context, k gateway.IdempotencyKey, a gateway.StoredResponse) error
	ReleaseIdempotencyKey(ctx context.Context, k gateway.IdempotencyKey) error
}
