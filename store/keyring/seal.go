package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"hydragate/gateway"
)

// ErrDecrypt says that a sealed value does not open: it was changed, moved to another
// row, or sealed with a key that the ring does not hold.
var ErrDecrypt = errors.New("store: a sealed value does not open with the master keys given")

// A MissingKeyError says that something hangs on a master key that the ring does not hold.
// It is gateway.ErrNoMasterKey, and ErrSealed.
type MissingKeyError struct {
	ID string
}

func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("master key %q is needed and not among those given: put it behind the others in HYDRAGATE_MASTER_KEYS", e.ID)
}

// Is makes it the errors it stands for.
func (e *MissingKeyError) Is(target error) bool {
	return target == ErrDecrypt || target == gateway.ErrNoMasterKey
}

// SealedPrefix gives how a value begins that a key sealed.
func SealedPrefix(id string) string { return "v1." + id + "." }

// Seal encrypts plain and binds it to what bind names.
func (r *Ring) Seal(plain []byte, bind string) string {
	k := r.Current()[0]
	return SealedPrefix(k.ID) + base64.RawURLEncoding.EncodeToString(k.aead.Seal(nil, nil, plain, []byte(k.ID+"\x1f"+bind)))
}

// Open decrypts what Seal made with the same bind: ErrSealed, *MissingKey. stale says
// that it was not the first key that sealed it.
func (r *Ring) Open(sealed, bind string) (plain []byte, stale bool, err error) {
	version, rest, _ := strings.Cut(sealed, ".")
	id, b64, _ := strings.Cut(rest, ".")
	if version != "v1" || !keyIDPattern.MatchString(id) {
		return nil, false, ErrDecrypt
	}
	k, first, ok := r.Find(id)
	if !ok {
		return nil, false, &MissingKeyError{id}
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(b64)
	if err != nil || strings.ContainsAny(b64, "\r\n") { // which the decoder passes over
		return nil, false, ErrDecrypt
	}
	plain, err = k.aead.Open(nil, nil, box, []byte(id+"\x1f"+bind))
	if err != nil {
		return nil, false, ErrDecrypt
	}
	return plain, !first, nil
}

// AssociatedData gives the associated data that binds a sealed value to its tenant, row and
// column.
func AssociatedData(tenant, column, row string) string {
	return fmt.Sprintf("%s\x1f%s\x1f%s", tenant, column, row)
}
