package main

import (
	"context"
	"errors"
	"fmt"

	"hydragate/cmd/hydragate/app"
	"hydragate/store/keyring"
)

type masterkeyCmd struct {
	New    masterkeyNewCmd    `cmd:"" help:"Print a new master key for HYDRAGATE_MASTER_KEYS."`
	Rotate masterkeyRotateCmd `cmd:"" help:"Re-encrypt stored secrets with the first master key. Gateways may keep running."`
}

type masterkeyNewCmd struct {
	ID string `help:"Id of the key. Never reuse an id. Default: a new one." placeholder:"ID"`
}

// Help implements kong.HelpProvider.
func (*masterkeyNewCmd) Help() string {
	return `To rotate keys, append the new key to HYDRAGATE_MASTER_KEYS on every gateway, then move it to the
first place on every gateway, then run hydragate masterkey rotate.`
}

// Run prints a new key.
func (c *masterkeyNewCmd) Run(con app.Console) error {
	if c.ID == "" {
		c.ID = app.NewKeyID()
	}
	key := keyring.GenerateKey(c.ID)
	if _, err := keyring.Parse(key); err != nil {
		return errors.New("--id must have 1 to 32 letters, digits, hyphens or underscores")
	}
	_, err := fmt.Fprintln(con.Out, key)
	return err
}

type masterkeyRotateCmd struct {
	app.Settings `group:"Settings:"`
	Check        bool `help:"Change nothing. Report which other keys are still needed, and exit with 1 if any is."`
}

// Run re-encrypts stored secrets, or checks whether that is finished.
func (c *masterkeyRotateCmd) Run(ctx context.Context, con app.Console) error {
	if c.Check {
		return app.CheckKeys(ctx, &c.Settings, con.Out)
	}
	return app.RotateKeys(ctx, &c.Settings, con.Out)
}
