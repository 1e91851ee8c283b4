package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"hydragate/gateway"
)

// ErrDecrypt reports that a value cannot be decrypted: it was changed, moved to another row, or
// encrypted with a key that the ring does not have.
var ErrDecrypt = errors.New("store: an encrypted value cannot be decrypted with the given master keys")

// A MissingKeyError reports that a master key is needed that the ring does not have. It matches
// gateway.ErrNoMasterKey and ErrDecrypt.
type MissingKeyError struct {
	ID string
}

// Error names the missing key and the setting to which it must be added.
func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("master key %q is required but missing: append it to HYDRAGATE_MASTER_KEYS", e.ID)
}

// Is reports whether target is ErrDecrypt or gateway.ErrNoMasterKey.
func (e *MissingKeyError) Is(target error) bool {
	return target == ErrDecrypt || target == gateway.ErrNoMasterKey
}

// SealedPrefix returns the prefix of all values encrypted with the key with the given ID.
func SealedPrefix(id string) string { return "v1." + id + "." }

// Seal encrypts plain with the first key and binds it to bind: Open succeeds only with the same
// bind. See AssociatedData.
func (r *Ring) Seal(plain []byte, bind string) string {
	k := r.Current()[0]
	box := k.aead.Seal(nil, nil, plain, []byte(k.ID+"\x1f"+bind)) //nolint:gosec // the AEAD generates a random nonce
	return SealedPrefix(k.ID) + base64.RawURLEncoding.EncodeToString(box)
}

// Open decrypts a value that Seal returned for the same bind. stale reports whether the value was
// encrypted with another key than the first. Open returns a *MissingKeyError if the ring does not
// have the key of the value, and ErrDecrypt if the value was changed or bound to something else.
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
	if err != nil || strings.ContainsAny(b64, "\r\n") { // the decoder ignores line breaks
		return nil, false, ErrDecrypt
	}
	plain, err = k.aead.Open(nil, nil, box, []byte(id+"\x1f"+bind))
	if err != nil {
		return nil, false, ErrDecrypt
	}
	return plain, !first, nil
}

// AssociatedData returns the associated data that binds an encrypted value to its tenant, column
// and row.
func AssociatedData(tenant, column, row string) string {
	return fmt.Sprintf("%s\x1f%s\x1f%s", tenant, column, row)
}
