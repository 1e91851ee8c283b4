package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hydragate/adapters"
	"hydragate/cmd/hydragate/app"
	"hydragate/identity"
)

type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Create an API key and print it. It cannot be printed again."`
	List   keysListCmd   `cmd:"" help:"List the API keys."`
	Revoke keysRevokeCmd `cmd:"" help:"Revoke an API key. It stops working within seconds."`
}

type keysCreateCmd struct {
	app.Settings `group:"Settings:"`
	Name         string        `arg:"" help:"What the key is for."`
	Scope        []string      `help:"Scopes, separated by commas, such as customers:read,claims:issue. Default: all." placeholder:"SCOPE" xor:"scopes"`
	Role         string        `help:"Scopes of a role instead of single scopes: admin, staff or viewer." placeholder:"ROLE" xor:"scopes"`
	RateLimit    int           `name:"rate-limit-per-second" help:"Requests per second, 1 to 10000, with bursts of twice that." default:"500" placeholder:"N"`
	Expires      time.Duration `help:"Time until the key expires, such as 720h. Default: never." placeholder:"DURATION"`
	Instance     string        `help:"Restrict the key to one instance." placeholder:"ID"`
}

// Run creates an API key and prints it.
func (c *keysCreateCmd) Run(ctx context.Context, con app.Console) error {
	if strings.TrimSpace(c.Name) == "" {
		return errors.New("the key needs a name: say what it is for")
	}
	if err := c.setScopes(); err != nil {
		return err
	}
	if c.Expires < 0 {
		return errors.New("--expires must be a time from now, such as 720h; without it the key never expires")
	}
	if c.RateLimit < 1 || c.RateLimit > identity.MaxRateLimit {
		return fmt.Errorf("--rate-limit-per-second must be between 1 and %d", identity.MaxRateLimit)
	}
	token, id, err := c.create(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(con.Out, "%s\n\nStore the key now: it is shown once. Its id is %s.\n", token, id)
	return err
}

// setScopes checks the scopes, and fills in the default.
func (c *keysCreateCmd) setScopes() error {
	if c.Role != "" && !slices.Contains(identity.Roles, c.Role) {
		return fmt.Errorf("--role %s does not exist; the roles are %s", c.Role, strings.Join(identity.Roles, ", "))
	}
	if len(c.Scope) == 0 {
		c.Scope = identity.RoleScopes(cmp.Or(c.Role, "admin"))
		if c.Instance != "" {
			c.Scope = slices.DeleteFunc(c.Scope, func(sc string) bool { return sc == "channels:write" })
		}
	}
	for _, sc := range c.Scope {
		if !slices.Contains(identity.Scopes, sc) {
			return fmt.Errorf("--scope %s does not exist; the scopes are %s", sc, strings.Join(identity.Scopes, ", "))
		}
		if c.Instance != "" && sc == "channels:write" {
			return errors.New("a key for one instance cannot have channels:write: with the credentials of a provider " +
				"its holder could forge messages of any sender")
		}
	}
	return nil
}

// create stores a new key, and returns the token and the id of the key.
func (c *keysCreateCmd) create(ctx context.Context) (token, id string, err error) {
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return "", "", err
	}
	defer s.Close()
	token = identity.NewToken("hg_live_")
	k := identity.APIKey{
		TenantID: identity.DefaultTenant, Name: c.Name, Scopes: c.Scope, InstanceID: c.Instance, Hint: token[len(token)-4:],
	}
	if c.RateLimit != identity.DefaultRateLimit { // the default may be exceeded by keys that this one creates
		k.RateLimit = c.RateLimit
	}
	if c.Expires > 0 {
		k.ExpiresAt = time.Now().UTC().Add(c.Expires)
	}
	k, err = s.CreateAPIKey(ctx, k, identity.HashToken(token), app.CommandActor)
	if errors.Is(err, identity.ErrNoInstance) {
		return "", "", fmt.Errorf("--instance must be the id of an instance; %s does not exist", c.Instance)
	}
	return token, k.ID, err
}

type keysListCmd struct {
	app.Settings `group:"Settings:"`
}

// Run lists the API keys.
func (c *keysListCmd) Run(ctx context.Context, con app.Console) error {
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	const pageSize = 100
	w := tabwriter.NewWriter(con.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tENDS IN\tSTATE\tLAST USED\tINSTANCE\tPER SECOND\tSCOPES")
	for after := ""; ; {
		keys, err := s.ListAPIKeys(ctx, identity.DefaultTenant, after, pageSize)
		if err != nil {
			return err
		}
		for _, k := range keys {
			after = k.ID
			printKey(w, k)
		}
		if len(keys) < pageSize {
			return w.Flush()
		}
	}
}

// printKey prints the line of a key.
func printKey(w io.Writer, k identity.APIKey) {
	state, used, instance := "live", "never", "all"
	switch {
	case !k.RevokedAt.IsZero():
		state = "revoked"
	case !k.IsLive(time.Now()):
		state = "expired"
	}
	if !k.LastUsedAt.IsZero() {
		used = k.LastUsedAt.Format(time.DateTime)
	}
	if k.InstanceID != "" {
		instance = k.InstanceID
	}
	scopes := strings.Join(k.Scopes, " ")
	if len(k.Scopes) == len(identity.Scopes) {
		scopes = "all"
	}
	fmt.Fprintf(w, "%s\t%s\t…%s\t%s\t%s\t%s\t%d\t%s\n", k.ID, adapters.Printable(k.Name), k.Hint, state, used, instance,
		cmp.Or(k.RateLimit, identity.DefaultRateLimit), scopes)
}

type keysRevokeCmd struct {
	app.Settings `group:"Settings:"`
	ID           string `arg:"" help:"Id of the key, as hydragate keys list prints it."`
}

// Run revokes an API key.
func (c *keysRevokeCmd) Run(ctx context.Context, con app.Console) error {
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.RevokeAPIKey(ctx, identity.DefaultTenant, c.ID, app.CommandActor)
	if errors.Is(err, identity.ErrNotFound) {
		return fmt.Errorf("no key has the id %s: hydragate keys list shows the ids", c.ID)
	}
	if err != nil {
		return fmt.Errorf("revoke %s: %w", c.ID, err)
	}
	_, err = fmt.Fprintln(con.Out, "revoked", c.ID)
	return err
}
