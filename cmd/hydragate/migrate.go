package main

import (
	"context"
	"fmt"
	"time"

	"hydragate/store"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" default:"1" help:"Take every step that is missing. Several processes may do so at once."`
	Status migrateStatusCmd `cmd:"" help:"Show every step and when it was taken."`
}

type migrateUpCmd struct {
	settings `group:"Settings:"`
}

func (c *migrateUpCmd) Run(ctx context.Context, con console) error {
	dsn, err := c.checkedDatabase()
	if err != nil {
		return err
	}
	done, err := store.Migrate(ctx, dsn)
	for _, m := range done {
		fmt.Fprintf(con.out, "applied %d %s\n", m.Version, m.Name)
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(con.out, "up to date")
	}
	return err
}

type migrateStatusCmd struct {
	settings `group:"Settings:"`
}

func (c *migrateStatusCmd) Run(ctx context.Context, con console) error {
	dsn, err := c.checkedDatabase()
	if err != nil {
		return err
	}
	ms, err := store.Migrations(ctx, dsn)
	for _, m := range ms {
		at := "pending"
		if !m.AppliedAt.IsZero() {
			at = m.AppliedAt.Format(time.DateTime)
		}
		fmt.Fprintf(con.out, "%d  %-28s %s\n", m.Version, m.Name, at)
	}
	return err
}

// checkedDatabase gives what a migration needs: settings in order, and the address.
func (s *settings) checkedDatabase() (string, error) {
	if s.postgres() && s.MasterKeys == "" {
		s.MasterKeys = store.NewMasterKey("unused") // migrating seals nothing
	}
	if err := s.check(); err != nil {
		return "", err
	}
	return s.database()
}
