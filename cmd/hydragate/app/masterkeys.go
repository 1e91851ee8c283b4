package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"hydragate/store"
	"hydragate/store/keyring"
)

// NewKeyID returns a new id for a master key: the time, for the reader, and six random
// characters, because a database must never see the same id for two keys.
func NewKeyID() string {
	return "k" + time.Now().UTC().Format("20060102T150405") + "-" + strings.ToLower(rand.Text()[:6])
}

// RotateKeys re-encrypts all stored secrets with the first master key and reports to out which
// other keys are still needed. If the keys are in the data directory, it adds a new first key to
// the key file before, and removes the keys that nothing needs after, unless a gateway is running:
// that gateway removes them later. RotateKeys may be interrupted and repeated. It returns
// ErrReported if values could not be re-encrypted.
func RotateKeys(ctx context.Context, s *Settings, out io.Writer) error {
	if err := s.Check(); err != nil {
		return err
	}
	if err := s.requireData(); err != nil {
		return err
	}
	if s.usesKeyFile() {
		return rotateKeyFile(ctx, s, out)
	}
	st, err := OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := reencrypt(ctx, st, out); err != nil {
		return err
	}
	usage, err := st.KeyUsage(ctx)
	if err != nil {
		return err
	}
	return reportKeyUsage(out, usage, s.usesKeyFile(), nil)
}

// CheckKeys reports to out what is encrypted with which master key. It returns ErrReported if a
// key other than the first is still needed.
func CheckKeys(ctx context.Context, s *Settings, out io.Writer) error {
	if err := s.requireData(); err != nil {
		return err
	}
	st, err := OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer st.Close()
	usage, err := st.KeyUsage(ctx)
	if err != nil {
		return err
	}
	if err := reportKeyUsage(out, usage, s.usesKeyFile(), nil); err != nil {
		return err
	}
	if slices.ContainsFunc(usage, func(u store.KeyUsage) bool { return !u.Primary && !u.IsUnused() }) {
		fmt.Fprintln(out, "not finished: claim codes or invites still depend on another key, see above")
		return ErrReported
	}
	return nil
}

// rotateKeyFile rotates the keys of the data directory. A running gateway follows the file.
func rotateKeyFile(ctx context.Context, s *Settings, out io.Writer) error {
	if _, err := s.KeyRing(); err != nil {
		return err
	}
	file := s.KeyFile()
	unlock, err := file.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := startRotation(ctx, s, file, out); err != nil {
		return err
	}
	// A running gateway encrypts with the new key from here on.
	select {
	case <-time.After(2 * keyring.RefreshInterval):
	case <-ctx.Done():
		return ctx.Err()
	}
	st, err := OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := reencrypt(ctx, st, out); err != nil {
		return err
	}
	dropped, err := dropKeysIfStopped(ctx, s, file, st, out)
	if err != nil {
		return err
	}
	usage, err := st.KeyUsage(ctx)
	if err != nil {
		return err
	}
	return reportKeyUsage(out, usage, true, dropped)
}

// startRotation puts a new key first in the key file. If an earlier rotation was interrupted, it
// continues that rotation instead.
func startRotation(ctx context.Context, s *Settings, file KeyFile, out io.Writer) error {
	st, err := OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer st.Close()
	usage, err := st.KeyUsage(ctx)
	if err != nil {
		return err
	}
	interrupted := func(u store.KeyUsage) bool { return !u.Primary && u.Available && u.Values() > 0 }
	if slices.ContainsFunc(usage, interrupted) {
		fmt.Fprintf(out, "continuing an interrupted rotation to key %s\n", usage[0].Key)
		return nil
	}
	id := NewKeyID()
	if err := file.Prepend(keyring.GenerateKey(id)); err != nil {
		return err
	}
	fmt.Fprintf(out, "added key %s to %s as the first key\n", id, file.Path)
	return nil
}

// dropKeysIfStopped removes unused keys from the key file if no gateway is running, and returns
// their ids. A running gateway may be about to store a value that it encrypted with one of them,
// so it removes them itself.
func dropKeysIfStopped(ctx context.Context, s *Settings, file KeyFile, st *store.Store, out io.Writer) (
	dropped []string, err error,
) {
	unlock, err := lockDataDir(s)
	if err != nil {
		return nil, nil // a gateway is running
	}
	defer unlock()
	if used, err := s.spoolHasRecords(); err != nil || used {
		return nil, err // the next gateway removes the keys after it has stored these messages
	}
	dropped, err = file.dropUnusedKeys(ctx, st)
	for _, id := range dropped {
		fmt.Fprintf(out, "removed key %s from %s: nothing needs it\n", id, file.Path)
	}
	return dropped, err
}

const (
	maxPasses        = 5 // over rows that were being written in the pass before
	progressInterval = time.Second
	passInterval     = 200 * time.Millisecond
)

// reencrypt re-encrypts values in several passes, until none is left that an available key can
// decrypt or maxPasses is reached.
func reencrypt(ctx context.Context, st *store.Store, out io.Writer) error {
	total := 0
	reported := time.Now()
	for range maxPasses {
		failed := 0
		err := st.Reencrypt(ctx, func(p store.ReencryptProgress) {
			total += p.Reencrypted
			failed += p.Corrupt + p.Missing
			if time.Since(reported) >= progressInterval {
				reported = time.Now()
				fmt.Fprintf(out, "%s re-encrypted so far, now in %s\n", countValues(total), p.Column)
			}
		})
		if err != nil {
			return err
		}
		remaining, err := countRemaining(ctx, st)
		if err != nil {
			return err
		}
		if remaining <= failed {
			break
		}
		select {
		case <-time.After(passInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := fmt.Fprintf(out, "%s re-encrypted\n", countValues(total))
	return err
}

// countRemaining returns the number of values that are encrypted with another key than the first.
func countRemaining(ctx context.Context, st *store.Store) (n int, err error) {
	usage, err := st.KeyUsage(ctx)
	for _, u := range usage {
		if !u.Primary {
			n += u.Values()
		}
	}
	return n, err
}

// reportKeyUsage prints what depends on each key, except on those that were just dropped. It
// returns ErrReported if values are encrypted with another key than the first.
func reportKeyUsage(out io.Writer, usage []store.KeyUsage, keyFile bool, dropped []string) error {
	remaining := 0
	for _, u := range usage {
		if u.Primary {
			fmt.Fprintf(out, "key %s is the first key: %s encrypted with it\n", u.Key, countValues(u.Values()))
			continue
		}
		remaining += u.Values()
		if !slices.Contains(dropped, u.Key) {
			fmt.Fprintln(out, describeKeyUsage(u, keyFile))
		}
	}
	fmt.Fprintf(out, "%s encrypted with other keys\n", countValues(remaining))
	if remaining > 0 {
		return ErrReported
	}
	return nil
}

// describeKeyUsage returns a sentence about a key other than the first: whether and when it can
// be removed. keyFile says that gateways remove keys themselves.
func describeKeyUsage(u store.KeyUsage, keyFile bool) string {
	until := u.CodesUntil.Format(time.RFC3339)
	switch {
	case !u.Available:
		return fmt.Sprintf("key %.40q is missing and still needed for %s", u.Key, formatCounts(u))
	case u.Values() > 0:
		return fmt.Sprintf("key %s is still needed for %s: run the rotation again; if that does not help, "+
			"a gateway still encrypts with this key, or the values are corrupt", u.Key, formatCounts(u))
	case u.Codes > 0 && keyFile:
		return fmt.Sprintf("key %s is needed until %s for %s; the gateway removes it then", u.Key, until, formatCounts(u))
	case u.Codes > 0:
		return fmt.Sprintf("key %s can be removed from HYDRAGATE_MASTER_KEYS after %s; until then it is needed for %s",
			u.Key, until, formatCounts(u))
	case keyFile:
		return fmt.Sprintf("key %s is not needed; the gateway removes it within two minutes", u.Key)
	}
	return fmt.Sprintf("key %s can be removed from HYDRAGATE_MASTER_KEYS now", u.Key)
}

func countValues(n int) string {
	if n == 1 {
		return "1 value"
	}
	return fmt.Sprintf("%d values", n)
}

// formatCounts lists what depends on a key, such as "2 instances.webhook_secret".
func formatCounts(u store.KeyUsage) string {
	var parts []string
	for _, column := range slices.Sorted(maps.Keys(u.Sealed)) {
		parts = append(parts, fmt.Sprintf("%d %s", u.Sealed[column], column))
	}
	if u.Codes > 0 {
		parts = append(parts, fmt.Sprintf("%d claim codes and invites", u.Codes))
	}
	return strings.Join(parts, ", ")
}

// checkKeyUsage returns an error that lists the keys that are missing, and those other than the
// first that values are still encrypted with.
func checkKeyUsage(ctx context.Context, st *store.Store) error {
	usage, err := st.KeyUsage(ctx)
	if err != nil {
		return err
	}
	var problems []string
	for _, u := range usage {
		switch {
		case u.Primary || u.IsUnused():
		case !u.Available:
			problems = append(problems, fmt.Sprintf("key %.40q is missing for %s: add it to HYDRAGATE_MASTER_KEYS",
				u.Key, formatCounts(u)))
		case u.Values() > 0:
			problems = append(problems, fmt.Sprintf("key %s is still needed for %s: run hydragate masterkey rotate",
				u.Key, formatCounts(u)))
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// checkMasterKeys returns an error if encrypted values are in use and no available key can decrypt any
// of them. If only some keys are missing, it logs them: the gateway starts, and what needs the
// missing keys waits. This limits the damage of a rotation in the wrong order.
func (g *Gateway) checkMasterKeys(ctx context.Context, s *Settings) error {
	timeout, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	usage, err := g.Store.ActiveKeyUsage(timeout)
	if err != nil {
		g.Log.WarnContext(ctx, "check master keys failed", "error", err)
		return nil
	}
	var missing []string
	anyAvailable := false
	for _, u := range usage {
		switch {
		case u.Values() == 0:
		case u.Available:
			anyAvailable = true
		default:
			missing = append(missing, fmt.Sprintf("%.40q for %s", u.Key, formatCounts(u)))
		}
	}
	switch {
	case len(missing) == 0:
	case anyAvailable:
		g.Log.WarnContext(ctx, "master keys missing, some messages and channels wait for them",
			"setting", "HYDRAGATE_MASTER_KEYS", "missing", strings.Join(missing, "; "))
	default:
		return InvalidSetting(s.masterKeySource(),
			"cannot decrypt this database: add the missing keys: "+strings.Join(missing, "; "))
	}
	return nil
}
