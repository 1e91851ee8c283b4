package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"hydragate/store"
)

type masterkeyCmd struct {
	New    masterkeyNewCmd    `cmd:"" help:"Print a new master key, to be added to HYDRAGATE_MASTER_KEYS: at the end everywhere, then first everywhere."`
	Rotate masterkeyRotateCmd `cmd:"" help:"Seal everything anew with the first master key, while gateways run."`
}

type masterkeyNewCmd struct {
	ID string `help:"Name of the key. Default: the time." placeholder:"ID"`
}

func (c *masterkeyNewCmd) Run(con console) error {
	if c.ID == "" {
		c.ID = newKeyID()
	}
	key := store.NewMasterKey(c.ID)
	if _, err := store.ParseKeyRing(key); err != nil {
		return fmt.Errorf("--id must be 1 to 32 letters, digits, - or _")
	}
	_, err := fmt.Fprintln(con.out, key)
	return err
}

// newKeyID names a key: no two of one database may have one name.
func newKeyID() string { return "k" + time.Now().UTC().Format("20060102T150405") }

type masterkeyRotateCmd struct {
	settings `group:"Settings:"`
	Check    bool `help:"Only say what is left on other keys than the first; fail when anything is."`
}

func (c *masterkeyRotateCmd) Run(ctx context.Context, con console) error {
	if err := cmp.Or(c.check(), c.there()); err != nil {
		return err
	}
	if !c.Check && c.ownsKeys() {
		return c.rotateFile(ctx, con)
	}
	s, err := openStore(ctx, &c.settings)
	if err != nil {
		return err
	}
	defer s.Close()
	if !c.Check {
		if err := reseal(ctx, s, con.out); err != nil {
			return err
		}
	}
	return c.report(ctx, s, con.out)
}

// rotateFile puts a new key into the key file and everything sealed on it. A rotation
// that did not get to its end is brought there instead. A gateway that runs meanwhile
// goes on: it follows the file.
func (c *masterkeyRotateCmd) rotateFile(ctx context.Context, con console) error {
	if _, err := c.database(); err != nil {
		return err
	}
	if _, err := c.keyRing(); err != nil {
		return err
	}
	file := c.keyFile()
	done, err := file.lock()
	if err != nil {
		return err
	}
	defer done()
	if err := c.beginRotation(ctx, file, con.out); err != nil {
		return err
	}
	// A gateway that runs seals with the new key from here on.
	select {
	case <-time.After(2 * store.KeysFresh):
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := openStore(ctx, &c.settings)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := reseal(ctx, s, con.out); err != nil {
		return err
	}
	dropped, err := c.tidyStopped(ctx, file, s, con.out)
	if err != nil {
		return err
	}
	return c.report(ctx, s, con.out, dropped...)
}

// tidyStopped takes old keys out at once when no gateway runs: one that does may have
// something in hand that it sealed with them, and takes them out itself.
func (c *masterkeyRotateCmd) tidyStopped(ctx context.Context, file keyFile, s *store.Store, out io.Writer) (dropped []string, err error) {
	unlock, err := lockData(&c.settings)
	if err != nil {
		return nil, nil // it runs
	}
	defer unlock()
	if held, err := c.spoolHolds(); err != nil || held {
		return nil, err // the gateway will, when it has stored that
	}
	dropped, err = file.tidy(ctx, s)
	for _, id := range dropped {
		fmt.Fprintf(out, "%s is out of %s\n", id, file.path)
	}
	return dropped, err
}

// spoolHolds reports whether gateways that ended left messages behind: they are sealed
// too.
func (s *settings) spoolHolds() (bool, error) {
	sp, err := s.openSpool(slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer sp.Close()
	_, err = sp.Adopt()
	return sp.Holding(), err
}

// beginRotation adds a key, unless values are left on another than the first.
func (c *masterkeyRotateCmd) beginRotation(ctx context.Context, file keyFile, out io.Writer) error {
	s, err := openStore(ctx, &c.settings)
	if err != nil {
		return err
	}
	defer s.Close()
	hanging, err := s.Hanging(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(hanging, func(h store.Hanging) bool { return !h.First && h.Here && h.Values() > 0 }) {
		fmt.Fprintf(out, "going on with %s\n", hanging[0].Key)
		return nil
	}
	id := newKeyID()
	if err := file.add(store.NewMasterKey(id)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is first in %s\n", id, file.path)
	return nil
}

const (
	passes    = 5 // over rows that somebody was writing
	sayEvery  = time.Second
	passPause = 200 * time.Millisecond
)

// reseal seals everything anew, as often as it takes for nothing to be left on a key
// that is here. What it cannot is left to report.
func reseal(ctx context.Context, s *store.Store, out io.Writer) error {
	all := 0
	said := time.Now()
	for range passes {
		stuck := 0
		err := s.Reseal(ctx, func(r store.Resealing) {
			all += r.Resealed
			stuck += r.Broken + r.Missing
			if time.Since(said) >= sayEvery {
				said = time.Now()
				fmt.Fprintf(out, "%d sealed anew, at %s\n", all, r.Column)
			}
		})
		if err != nil {
			return err
		}
		left, err := leftOn(ctx, s)
		if err != nil {
			return err
		}
		if left <= stuck {
			break
		}
		select {
		case <-time.After(passPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := fmt.Fprintf(out, "%d values sealed anew\n", all)
	return err
}

// leftOn counts the values on other keys than the first.
func leftOn(ctx context.Context, s *store.Store) (n int, err error) {
	hanging, err := s.Hanging(ctx)
	for _, h := range hanging {
		if !h.First {
			n += h.Values()
		}
	}
	return n, err
}

// report says what hangs on other keys than the first, but for those that are gone, and
// fails when anything is sealed with them.
func (c *masterkeyRotateCmd) report(ctx context.Context, s *store.Store, out io.Writer, gone ...string) error {
	hanging, err := s.Hanging(ctx)
	if err != nil {
		return err
	}
	left := 0
	for _, h := range hanging {
		if h.First {
			fmt.Fprintf(out, "%s seals: %d values\n", h.Key, h.Values())
			continue
		}
		left += h.Values()
		if !slices.Contains(gone, h.Key) {
			fmt.Fprintln(out, tellHanging(h, c.ownsKeys()))
		}
	}
	fmt.Fprintf(out, "%d values are left on other keys\n", left)
	if left > 0 {
		return errSaid
	}
	if c.Check && slices.ContainsFunc(hanging, func(h store.Hanging) bool { return !h.First && !h.Free() }) {
		fmt.Fprintln(out, "not done yet: codes or invites that were read out hang on another key, as said above")
		return errSaid
	}
	return nil
}

func tellHanging(h store.Hanging, own bool) string {
	switch {
	case !h.Here:
		return fmt.Sprintf("%.40q is not among the keys given and something needs it: %s", h.Key, counts(h))
	case h.Values() > 0:
		return fmt.Sprintf("%s must stay: %s; when this does not end, a gateway seals with it, or values were changed", h.Key, counts(h))
	case h.Codes > 0 && own:
		return fmt.Sprintf("%s stays until %s for %s; the gateway takes it out then", h.Key, h.Until.Format(time.RFC3339), counts(h))
	case h.Codes > 0:
		return fmt.Sprintf("%s can be taken out of HYDRAGATE_MASTER_KEYS from %s on: until then %s", h.Key, h.Until.Format(time.RFC3339), counts(h))
	}
	if own {
		return fmt.Sprintf("nothing needs %s any more: the gateway takes it out within two minutes", h.Key)
	}
	return fmt.Sprintf("%s can be taken out of HYDRAGATE_MASTER_KEYS now", h.Key)
}

func counts(h store.Hanging) string {
	var parts []string
	for _, column := range slices.Sorted(maps.Keys(h.Sealed)) {
		parts = append(parts, fmt.Sprintf("%d %s", h.Sealed[column], column))
	}
	if h.Codes > 0 {
		parts = append(parts, fmt.Sprintf("%d claim codes and invites", h.Codes))
	}
	return strings.Join(parts, ", ")
}

// keysFit says which keys are missing for what is in use, and refuses a start with keys
// that sealed nothing of it. With some of them a gateway starts: what hangs on the
// others waits, and in a rotation done in another order than it should be that is less
// than an outage.
func (p *parts) keysFit(ctx context.Context, s *settings) error {
	within, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	inUse, err := p.store.InUse(within)
	if err != nil {
		p.log.WarnContext(ctx, "not known whether all master keys in use are given", "error", err)
		return nil
	}
	var missing []string
	opens := false
	for _, h := range inUse {
		switch {
		case h.Values() == 0:
		case h.Here:
			opens = true
		default:
			missing = append(missing, fmt.Sprintf("%.40q for %s", h.Key, counts(h)))
		}
	}
	switch {
	case len(missing) == 0:
	case opens:
		p.log.WarnContext(ctx, "master keys that something in use is sealed with are missing: it waits for them", "setting", "HYDRAGATE_MASTER_KEYS", "missing", strings.Join(missing, "; "))
	default:
		return wrong(s.keysFrom(), "opens nothing that this database holds: add what is missing, "+strings.Join(missing, "; "))
	}
	return nil
}

// keysFrom names where the master keys come from.
func (s *settings) keysFrom() string {
	if s.ownsKeys() {
		return fmt.Sprintf("HYDRAGATE_MASTER_KEYS (not set: %s)", s.keyFile().path)
	}
	return "HYDRAGATE_MASTER_KEYS"
}

// keysInOrder says which keys are to go and still needed, or needed and missing.
func keysInOrder(ctx context.Context, s *store.Store) error {
	hanging, err := s.Hanging(ctx)
	if err != nil {
		return err
	}
	var ill []string
	for _, h := range hanging {
		switch {
		case h.First || h.Free():
		case !h.Here:
			ill = append(ill, fmt.Sprintf("%.40q is missing for %s", h.Key, counts(h)))
		case h.Values() > 0:
			ill = append(ill, fmt.Sprintf("%s is still needed for %s: hydragate masterkey rotate", h.Key, counts(h)))
		}
	}
	if len(ill) > 0 {
		return errors.New(strings.Join(ill, "; "))
	}
	return nil
}
