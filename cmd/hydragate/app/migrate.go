package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// Migrate applies all pending migrations and prints them to out. It creates the embedded database
// if there is none.
func Migrate(ctx context.Context, s *Settings, out io.Writer) error {
	dsn, err := migrationDSN(s)
	if err != nil {
		return err
	}
	applied, err := sqldb.Migrate(ctx, dsn)
	for _, m := range applied {
		fmt.Fprintf(out, "applied %d %s\n", m.Version, m.Name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(out, "up to date")
	}
	return err
}

// PrintMigrations prints every migration to out, with the time at which it was applied.
func PrintMigrations(ctx context.Context, s *Settings, out io.Writer) error {
	dsn, err := migrationDSN(s)
	if err != nil {
		return err
	}
	if err := s.requireData(); err != nil {
		return err
	}
	migrations, err := sqldb.Migrations(ctx, dsn)
	for _, m := range migrations {
		applied := "pending"
		if !m.AppliedAt.IsZero() {
			applied = m.AppliedAt.Format(time.DateTime)
		}
		fmt.Fprintf(out, "%d  %-28s %s\n", m.Version, m.Name, applied)
	}
	return err
}

// migrationDSN validates the settings and returns the database URL or file. A migration encrypts
// nothing, so it needs no master keys.
func migrationDSN(s *Settings) (string, error) {
	validated := *s
	if validated.usesPostgres() && validated.MasterKeys == "" {
		validated.MasterKeys = keyring.GenerateKey("unused")
	}
	if err := validated.Check(); err != nil {
		return "", err
	}
	return s.DSN()
}
