package store

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"hydragate/gateway"
)

// ErrSealed says that a sealed value does not open: it was changed, moved to another
// row, or sealed with a key that the ring does not hold.
var ErrSealed = errors.New("store: a sealed value does not open with the master keys given")

// A MissingKey says that something hangs on a master key that the ring does not hold.
// It is gateway.ErrNoMasterKey, and ErrSealed.
type MissingKey struct {
	ID string
}

func (e *MissingKey) Error() string {
	return fmt.Sprintf("master key %q is needed and not among those given: put it behind the others in HYDRAGATE_MASTER_KEYS", e.ID)
}

// Is makes it the errors it stands for.
func (e *MissingKey) Is(target error) bool {
	return target == ErrSealed || target == gateway.ErrNoMasterKey
}

// sealedBy gives how a value begins that a key sealed.
func sealedBy(id string) string { return "v1." + id + "." }

// Seal encrypts plain and binds it to what bind names.
func (r *KeyRing) Seal(plain []byte, bind string) string {
	k := r.now()[0]
	return sealedBy(k.id) + base64.RawURLEncoding.EncodeToString(k.gcm.Seal(nil, nil, plain, []byte(k.id+"\x1f"+bind)))
}

// Open decrypts what Seal made with the same bind: ErrSealed, *MissingKey. stale says
// that it was not the first key that sealed it.
func (r *KeyRing) Open(sealed, bind string) (plain []byte, stale bool, err error) {
	version, rest, _ := strings.Cut(sealed, ".")
	id, b64, _ := strings.Cut(rest, ".")
	if version != "v1" || !keyID.MatchString(id) {
		return nil, false, ErrSealed
	}
	k, first, ok := r.find(id)
	if !ok {
		return nil, false, &MissingKey{id}
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(b64)
	if err != nil || strings.ContainsAny(b64, "\r\n") { // which the decoder passes over
		return nil, false, ErrSealed
	}
	plain, err = k.gcm.Open(nil, nil, box, []byte(id+"\x1f"+bind))
	if err != nil {
		return nil, false, ErrSealed
	}
	return plain, !first, nil
}
