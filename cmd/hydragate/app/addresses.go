package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hydragate/gateway"
	"hydragate/store"
)

// assignAddresses makes endpoints the owners of their provider addresses, and logs each address that
// several endpoints have. All of these but the owner are disabled.
func (g *Gateway) assignAddresses(ctx context.Context) error {
	conflicts, err := g.Store.AssignAddresses(ctx)
	if err != nil {
		return fmt.Errorf("assign provider addresses: %w", err)
	}
	for _, c := range conflicts {
		active, disabled := "", make([]string, 0, len(c.Endpoints))
		for i, e := range c.Endpoints {
			if i == 0 && c.Owned {
				active = e.InstanceID
				continue
			}
			disabled = append(disabled, e.InstanceID)
		}
		g.Log.WarnContext(ctx, "provider address connected several times, run hydragate doctor",
			"channel", c.Address.Channel, "instance", active, "disabled_instances", disabled)
	}
	return nil
}

// checkAddresses returns an error that names the instances which are connected to the same provider
// address.
func checkAddresses(ctx context.Context, s *store.Store) error {
	conflicts, err := s.AddressConflicts(ctx)
	if err != nil {
		return err
	}
	var problems []string
	for _, c := range conflicts {
		instances := make([]string, 0, len(c.Endpoints))
		for _, e := range c.Endpoints {
			description, err := describeOwner(ctx, s, e)
			if err != nil {
				return err
			}
			instances = append(instances, description)
		}
		problems = append(problems, fmt.Sprintf("%s %s is connected to several instances, and only one of them "+
			"can be active: %s. Remove the channel from all but one",
			c.Address.Channel, c.Endpoints[0].Address, strings.Join(instances, ", ")))
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// describeOwner names the instance of an endpoint for operators, with the status of the endpoint.
func describeOwner(ctx context.Context, s *store.Store, e gateway.EndpointState) (string, error) {
	i, err := s.Instance(ctx, e.TenantID, e.InstanceID)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s (%s, tenant %s, %s)", i.Name, i.ID, i.TenantID, e.Status), nil
}
