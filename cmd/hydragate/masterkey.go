package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/store"
	"hydragate/store/keyring"
)

type masterkeyCmd struct {
	New    masterkeyNewCmd    `cmd:"" help:"Print a new master key, to be added to HYDRAGATE_MASTER_KEYS: at the end everywhere, then first everywhere."`
	Rotate masterkeyRotateCmd `cmd:"" help:"Seal everything anew with the first master key, while gateways run."`
}

type masterkeyNewCmd struct {
	ID string `help:"Name of the key. Default: the time." placeholder:"ID"`
}

func (c *masterkeyNewCmd) Run(con app.Console) error {
	if c.ID == "" {
		c.ID = app.NewKeyID()
	}
	key := keyring.GenerateKey(c.ID)
	if _, err := keyring.Parse(key); err != nil {
		return fmt.Errorf("--id must be 1 to 32 letters, digits, - or _")
	}
	_, err := fmt.Fprintln(con.Out, key)
	return err
}

type masterkeyRotateCmd struct {
	app.Settings `group:"Settings:"`
	Check        bool `help:"Only say what is left on other keys than the first; fail when anything is."`
}

func (c *masterkeyRotateCmd) Run(ctx context.Context, con app.Console) error {
	if err := cmp.Or(c.Settings.Check(), c.RequireData()); err != nil {
		return err
	}
	if !c.Check && c.UsesKeyFile() {
		return c.rotateKeyFile(ctx, con)
	}
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	if !c.Check {
		if err := app.Reencrypt(ctx, s, con.Out); err != nil {
			return err
		}
	}
	return c.reportKeyUsage(ctx, s, con.Out)
}

// rotateKeyFile puts a new key into the key file and everything sealed on it. A rotation
// that did not get to its end is brought there instead. A gateway that runs meanwhile
// goes on: it follows the file.
func (c *masterkeyRotateCmd) rotateKeyFile(ctx context.Context, con app.Console) error {
	if _, err := c.DSN(); err != nil {
		return err
	}
	if _, err := c.KeyRing(); err != nil {
		return err
	}
	file := c.KeyFile()
	done, err := file.Lock()
	if err != nil {
		return err
	}
	defer done()
	if err := c.startRotation(ctx, file, con.Out); err != nil {
		return err
	}
	// A gateway that runs seals with the new key from here on.
	select {
	case <-time.After(2 * keyring.RefreshInterval):
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := app.Reencrypt(ctx, s, con.Out); err != nil {
		return err
	}
	dropped, err := c.dropKeysIfStopped(ctx, file, s, con.Out)
	if err != nil {
		return err
	}
	return c.reportKeyUsage(ctx, s, con.Out, dropped...)
}

// dropKeysIfStopped takes old keys out at once when no gateway runs: one that does may have
// something in hand that it sealed with them, and takes them out itself.
func (c *masterkeyRotateCmd) dropKeysIfStopped(ctx context.Context, file app.KeyFile, s *store.Store, out io.Writer) (dropped []string, err error) {
	unlock, err := app.LockDataDir(&c.Settings)
	if err != nil {
		return nil, nil // it runs
	}
	defer unlock()
	if held, err := c.SpoolHasRecords(); err != nil || held {
		return nil, err // the gateway will, when it has stored that
	}
	dropped, err = file.DropUnusedKeys(ctx, s)
	for _, id := range dropped {
		fmt.Fprintf(out, "%s is out of %s\n", id, file.Path)
	}
	return dropped, err
}

// startRotation adds a key, unless values are left on another than the first.
func (c *masterkeyRotateCmd) startRotation(ctx context.Context, file app.KeyFile, out io.Writer) error {
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	hanging, err := s.KeyUsage(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(hanging, func(h store.KeyUsage) bool { return !h.Primary && h.Available && h.Values() > 0 }) {
		fmt.Fprintf(out, "going on with %s\n", hanging[0].Key)
		return nil
	}
	id := app.NewKeyID()
	if err := file.Prepend(keyring.GenerateKey(id)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is first in %s\n", id, file.Path)
	return nil
}

// reportKeyUsage says what hangs on other keys than the first, but for those that are gone, and
// fails when anything is sealed with them.
func (c *masterkeyRotateCmd) reportKeyUsage(ctx context.Context, s *store.Store, out io.Writer, gone ...string) error {
	hanging, err := s.KeyUsage(ctx)
	if err != nil {
		return err
	}
	left := 0
	for _, h := range hanging {
		if h.Primary {
			fmt.Fprintf(out, "%s seals: %d values\n", h.Key, h.Values())
			continue
		}
		left += h.Values()
		if !slices.Contains(gone, h.Key) {
			fmt.Fprintln(out, app.DescribeKeyUsage(h, c.UsesKeyFile()))
		}
	}
	fmt.Fprintf(out, "%d values are left on other keys\n", left)
	if left > 0 {
		return app.ErrReported
	}
	if c.Check && slices.ContainsFunc(hanging, func(h store.KeyUsage) bool { return !h.Primary && !h.IsUnused() }) {
		fmt.Fprintln(out, "not done yet: codes or invites that were read out hang on another key, as said above")
		return app.ErrReported
	}
	return nil
}
