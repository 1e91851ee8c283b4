package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/sqldb"
)

// checkTimeout bounds each check.
const checkTimeout = 15 * time.Second

// Diagnose checks the settings, the database, the master keys, Redis, and every channel as its provider
// sees it, and prints a line to out for each check. It does not migrate the database. It
// returns ErrReported if a check failed.
func Diagnose(ctx context.Context, s *Settings, out io.Writer) error {
	d := doctor{out: out}
	d.run(ctx, s)
	if d.failed > 0 {
		fmt.Fprintf(out, "\n%d of %d checks failed\n", d.failed, d.total)
		return ErrReported
	}
	_, err := fmt.Fprintf(out, "\nall %d checks passed\n", d.total)
	return err
}

// A doctor prints the result of each check.
type doctor struct {
	out           io.Writer
	total, failed int
}

// run makes all checks. It stops at the first failure that the other checks depend on.
func (d *doctor) run(ctx context.Context, s *Settings) {
	if !d.report("settings", checkSettings(s)) || !d.report("schema", checkSchema(ctx, s)) {
		return
	}
	g, err := New(ctx, s, s.PublicURL, slog.New(slog.DiscardHandler))
	if err != nil {
		d.report("start", err)
		return
	}
	defer g.Close()
	d.check(ctx, "database ("+g.Store.Engine()+")", g.Store.Ping)
	d.check(ctx, "master keys", func(ctx context.Context) error { return checkKeyUsage(ctx, g.Store) })
	d.check(ctx, "replicas", g.checkReplicas)
	d.check(ctx, "provider addresses", func(ctx context.Context) error { return checkAddresses(ctx, g.Store) })
	d.check(ctx, "Redis", func(ctx context.Context) error { return g.Redis.Ping(ctx).Err() })
	instances, err := listEndpoints(ctx, g)
	d.reportPublicURL(s.PublicURL, instances)
	if err != nil {
		d.report("channels", err)
	}
	for _, i := range instances {
		d.checkInstance(ctx, g, i)
	}
}

func (d *doctor) report(name string, err error) (ok bool) {
	d.total++
	name = adapters.Printable(name)
	if err != nil {
		d.failed++
		fmt.Fprintf(d.out, "✗ %s: %s\n", name, adapters.Printable(err.Error()))
		return false
	}
	fmt.Fprintf(d.out, "✓ %s\n", name)
	return true
}

// warn prints what may need attention. It does not make the command fail.
func (d *doctor) warn(name, text string) { fmt.Fprintf(d.out, "! %s: %s\n", name, text) }

func (d *doctor) check(ctx context.Context, name string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	d.report(name, f(ctx))
}

func checkSettings(s *Settings) error {
	if err := s.Check(); err != nil {
		return err
	}
	if err := s.checkCodeStore(); err != nil {
		return err
	}
	return s.requireData()
}

// checkSchema returns an error if migrations are pending. It runs before the store is opened,
// which would apply them, because a check must not upgrade the database.
func checkSchema(ctx context.Context, s *Settings) error {
	dsn, err := s.DSN()
	if err != nil {
		return err
	}
	migrations, err := sqldb.Migrations(ctx, dsn)
	if err != nil {
		return databaseError(s, err)
	}
	pending := 0
	for _, m := range migrations {
		if m.AppliedAt.IsZero() {
			pending++
		}
	}
	if pending > 0 {
		return fmt.Errorf("%d of %d migrations are pending: run hydragate migrate up, or start the gateway, "+
			"which applies them", pending, len(migrations))
	}
	return nil
}

// reportPublicURL reports whether providers can call the gateway. A gateway whose channels all poll or
// use a socket needs no public URL.
func (d *doctor) reportPublicURL(u string, instances []instanceEndpoints) {
	total, webhooks := 0, 0
	for _, i := range instances {
		total += len(i.endpoints)
		for _, st := range i.endpoints {
			if st.Mode != adapters.Polling && st.Mode != adapters.Socket {
				webhooks++
			}
		}
	}
	if u == "" && total > 0 && webhooks == 0 {
		d.report("public URL (not set, and no channel needs it)", nil)
		return
	}
	d.report("public URL", checkPublicURL(u))
}

// checkReplicas returns an error if gateways are running that do not share their claim codes.
func (g *Gateway) checkReplicas(ctx context.Context) error {
	replicas, err := g.Store.Replicas(ctx)
	if err != nil {
		return err
	}
	stores := map[string]bool{}
	for _, r := range replicas {
		stores[r.CodeStore] = true
	}
	switch {
	case len(stores) > 1:
		return fmt.Errorf("%d gateways use this database with %d separate stores of claim codes, so that valid codes "+
			"are rejected: give all the same HYDRAGATE_REDIS_URL, or stop all but one", len(replicas), len(stores))
	case len(replicas) > 1 && g.replicas != nil && g.replicas.Single:
		return fmt.Errorf("HYDRAGATE_SINGLE_REPLICA is true, and %d gateways use this database: "+
			"stop all but one, or unset it", len(replicas))
	}
	return nil
}

func checkPublicURL(u string) error {
	switch {
	case u == "":
		return errors.New("HYDRAGATE_PUBLIC_URL is not set, so providers cannot call this gateway: " +
			"set it, or use polling for Telegram and Socket Mode for Slack")
	case !strings.HasPrefix(u, "https://"):
		return errors.New("HYDRAGATE_PUBLIC_URL does not start with https://: webhooks can be read and changed " +
			"on the way, and Telegram and Slack do not call it")
	}
	return nil
}

// instanceEndpoints are the endpoints of an instance.
type instanceEndpoints struct {
	gateway.Instance
	endpoints []gateway.EndpointState
}

// listEndpoints returns all instances with their endpoints. After an error, it returns those that it
// has read.
func listEndpoints(ctx context.Context, g *Gateway) ([]instanceEndpoints, error) {
	const pageSize = 100
	var all []instanceEndpoints
	for after := ""; ; {
		page, err := g.Store.ListInstances(ctx, identity.DefaultTenant, after, pageSize)
		if err != nil {
			return all, err
		}
		for _, i := range page {
			states, err := g.Endpoints.EndpointStates(ctx, i.TenantID, i.ID)
			if err != nil {
				return all, err
			}
			all = append(all, instanceEndpoints{i, states})
			after = i.ID
		}
		if len(page) < pageSize {
			return all, nil
		}
	}
}

// checkInstance checks the credentials of every channel of an instance with its provider.
func (d *doctor) checkInstance(ctx context.Context, g *Gateway, i instanceEndpoints) {
	for _, st := range i.endpoints {
		var warnings []string
		name := fmt.Sprintf("%s of %s (%s)", st.Channel, i.Name, i.ID)
		d.check(ctx, name, func(ctx context.Context) (err error) {
			warnings, err = checkEndpoint(ctx, g, st)
			return describeFault(err)
		})
		for _, w := range warnings {
			d.warn(name, w)
		}
	}
	if len(i.endpoints) == 0 {
		d.report(fmt.Sprintf("channels of %s (%s)", i.Name, i.ID), errors.New("no channel is connected"))
	}
}

// checkEndpoint asks the provider whether a channel works, and changes nothing there. It returns an error
// if it does not, and what staff should know.
func checkEndpoint(ctx context.Context, g *Gateway, st gateway.EndpointState) (warnings []string, err error) {
	if st.Err != nil {
		return nil, st.Err
	}
	if st.Status == gateway.EndpointDisabled {
		return nil, storedFault(st)
	}
	if a, ok := g.Endpoints.Adapters[st.Channel].(adapters.Configurer); ok {
		if _, err := a.Check(ctx, st.Endpoint); err != nil {
			return nil, err
		}
	}
	if a, ok := g.Endpoints.Adapters[st.Channel].(adapters.StatusReporter); ok {
		report, err := a.Status(ctx, st.Endpoint, st.LastEventAt)
		if err != nil {
			return nil, err
		}
		if report.Fault != "" {
			return nil, errors.New(report.Fault)
		}
		warnings = report.Warnings
	}
	if st.Status != gateway.EndpointActive {
		return nil, storedFault(st)
	}
	for _, w := range st.Warnings {
		if !slices.Contains(warnings, w) {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

// storedFault returns why an endpoint does not work as the gateway found it last.
func storedFault(st gateway.EndpointState) error {
	if st.ErrorMessage == "" {
		return fmt.Errorf("the channel is %s", st.Status)
	}
	return errors.New(st.ErrorMessage)
}

// describeFault returns err in the words of the provider alone.
func describeFault(err error) error {
	se, ok := errors.AsType[*adapters.SetupError](err)
	switch {
	case !ok || se.Message == "":
		return err
	case se.Retryable():
		return errors.New(strings.TrimSuffix(se.Message, ".") + ", so it is not known whether the channel works")
	}
	return errors.New(se.Message)
}
