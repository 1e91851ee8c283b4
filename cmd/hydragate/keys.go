package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/identity"
)

type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Create an API key and print it once."`
	List   keysListCmd   `cmd:"" help:"List the API keys."`
	Revoke keysRevokeCmd `cmd:"" help:"Revoke an API key; it stops working within seconds."`
}

type keysCreateCmd struct {
	app.Settings `group:"Settings:"`
	Name         string        `arg:"" help:"What the key is for."`
	Scope        []string      `help:"Rights, comma-separated, such as customers:read,claims:issue. Default: all." placeholder:"SCOPE"`
	Expires      time.Duration `help:"When it ends, such as 720h. Default: never." placeholder:"DURATION"`
	For          string        `name:"instance" help:"Limit it to one instance." placeholder:"ID"`
}

func (c *keysCreateCmd) Run(ctx context.Context, con app.Console) error {
	if strings.TrimSpace(c.Name) == "" {
		return errors.New("the key needs a name: say what it is for")
	}
	if len(c.Scope) == 0 {
		c.Scope = identity.Scopes
		if c.For != "" {
			c.Scope = slices.DeleteFunc(slices.Clone(identity.Scopes), func(sc string) bool { return sc == "channels:write" })
		}
	}
	for _, sc := range c.Scope {
		if !slices.Contains(identity.Scopes, sc) {
			return fmt.Errorf("--scope %s does not exist; there are %s", sc, strings.Join(identity.Scopes, ", "))
		}
		if c.For != "" && sc == "channels:write" {
			return fmt.Errorf("a key for one instance cannot hold channels:write: who holds a provider's secret can forge its senders")
		}
	}
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	k := identity.APIKey{TenantID: identity.DefaultTenant, Name: c.Name, Scopes: c.Scope, InstanceID: c.For}
	if c.Expires > 0 {
		k.ExpiresAt = time.Now().UTC().Add(c.Expires)
	}
	token := identity.NewToken("hg_live_")
	k.Hint = token[len(token)-4:]
	k, err = s.CreateAPIKey(ctx, k, identity.HashToken(token), app.CommandActor)
	if errors.Is(err, identity.ErrNoInstance) {
		return fmt.Errorf("--instance must be the id of an instance: there is none %s", c.For)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(con.Out, "%s\n\nThis is shown once. Its id is %s.\n", token, k.ID)
	return err
}

type keysListCmd struct {
	app.Settings `group:"Settings:"`
}

func (c *keysListCmd) Run(ctx context.Context, con app.Console) error {
	if err := c.RequireData(); err != nil {
		return err
	}
	s, err := app.OpenStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer s.Close()
	w := tabwriter.NewWriter(con.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tENDS IN\tSTATE\tLAST USED\tINSTANCE\tSCOPES")
	for after := ""; ; {
		ks, err := s.ListAPIKeys(ctx, identity.DefaultTenant, after, 100)
		if err != nil {
			return err
		}
		for _, k := range ks {
			after = k.ID
			printKey(w, k)
		}
		if len(ks) < 100 {
			return w.Flush()
		}
	}
}

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
	fmt.Fprintf(w, "%s\t%s\t…%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Hint, state, used, instance, scopes)
}

type keysRevokeCmd struct {
	app.Settings `group:"Settings:"`
	ID           string `arg:"" help:"Id of the key, as keys list shows it."`
}

func (c *keysRevokeCmd) Run(ctx context.Context, con app.Console) error {
	if err := c.RequireData(); err != nil {
		return err
	}
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
