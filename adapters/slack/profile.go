package slack

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"hydragate/adapters"
)

// Profile returns the names of a person, which events do not contain. The token needs the scope
// users:read.
func (a *Adapter) Profile(ctx context.Context, ep adapters.Endpoint, externalID string) (adapters.Sender, error) {
	team, user, _ := strings.Cut(externalID, ":")
	tokens := ep.Current(adapters.BotToken)
	if len(tokens) == 0 || !isUserID(user) {
		return adapters.Sender{}, &adapters.SendError{
			Reason: adapters.Refused, Code: "no_profile", Err: errors.New("no bot token, or no user ID"),
		}
	}
	c := a.newCall()
	found, err := c.apiClient(a, tokens[0]).GetUserInfoContext(ctx, user)
	if err != nil {
		return adapters.Sender{}, c.sendError(err)
	}
	if team != ep.Address && team != found.TeamID {
		return adapters.Sender{ID: externalID}, nil // someone else with the same ID
	}
	return adapters.Sender{
		ID:       externalID,
		Name:     adapters.Sanitize(cmp.Or(found.Profile.RealName, found.RealName, found.Profile.DisplayName), maxName),
		Username: adapters.Sanitize(found.Name, maxName),
	}, nil
}
