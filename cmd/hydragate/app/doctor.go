package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// checkTimeout bounds each check.
const checkTimeout = 15 * time.Second

// A DoctorReport prints a line for each check.
type DoctorReport struct {
	Out           io.Writer
	Total, Failed int
}

func (d *DoctorReport) Add(what string, err error) {
	d.Total++
	if err != nil {
		d.Failed++
		fmt.Fprintf(d.Out, "✗ %s: %v\n", what, err)
		return
	}
	fmt.Fprintf(d.Out, "✓ %s\n", what)
}

func (d *DoctorReport) Check(ctx context.Context, what string, check func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	d.Add(what, check(ctx))
}

// CheckEndpoints asks every provider whether the credentials kept are good.
func (d *DoctorReport) CheckEndpoints(ctx context.Context, p *Gateway) error {
	for after := ""; ; {
		instances, err := p.Store.ListInstances(ctx, identity.DefaultTenant, after, 100)
		if err != nil {
			return err
		}
		for _, i := range instances {
			after = i.ID
			if err := d.checkInstance(ctx, p, i); err != nil {
				return err
			}
		}
		if len(instances) < 100 {
			return nil
		}
	}
}

func (d *DoctorReport) checkInstance(ctx context.Context, p *Gateway, i gateway.Instance) error {
	seats, err := p.Endpoints.EndpointStates(ctx, i.TenantID, i.ID)
	if err != nil {
		return err
	}
	for _, s := range seats {
		d.Check(ctx, fmt.Sprintf("%s of %s (%s)", s.Channel, i.Name, i.ID), func(ctx context.Context) error {
			a, ok := p.Endpoints.Adapters[s.Channel].(adapters.Configurer)
			if !ok {
				return nil
			}
			if _, err := a.Check(ctx, s.Endpoint); err != nil {
				return err
			}
			if s.Status != gateway.EndpointActive {
				return fmt.Errorf("is %s: %s", s.Status, s.ErrorMessage)
			}
			return nil
		})
	}
	if len(seats) == 0 {
		d.Add(fmt.Sprintf("channels of %s (%s)", i.Name, i.ID), errors.New("none is set up"))
	}
	return nil
}
