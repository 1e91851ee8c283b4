//go:build unix

package harness

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/identity"
)

// NewClient creates an API key with all scopes. It returns a client with the key, which has its own
// limits.
func (s *Harness) NewClient(ctx context.Context) (*Client, error) {
	var created struct{ Key string }
	body := map[string]any{"name": "test", "scopes": identity.Scopes}
	err := s.API.CallJSON(ctx, "POST", "/v1/keys", body, http.StatusCreated, &created)
	c := *s.API
	c.Key = created.Key
	return &c, err
}

// An IssuedCode is the claim code of a user on Telegram.
type IssuedCode struct {
	User int64
	Code string
	path string // of the identity
}

// IssueCode links a new user on Telegram to a new customer and issues a code.
func (s *Harness) IssueCode(ctx context.Context, api *Client) (c IssuedCode, err error) {
	c.User = 900_000 + s.codesIssued.Add(1)
	create := func(path string, body any, into any) {
		if err == nil {
			err = api.CallJSON(ctx, "POST", path, body, http.StatusCreated, into)
		}
	}
	var customer, linked struct{ ID string }
	create("/v1/customers", map[string]string{"first_name": "Steve"}, &customer)
	c.path = "/v1/customers/" + customer.ID + "/identities"
	create(c.path, map[string]string{
		"channel": "telegram", "external_id": strconv.FormatInt(c.User, 10), "instance_id": s.InstanceID,
	}, &linked)
	c.path += "/" + linked.ID
	create(c.path+"/claim-code", struct{}{}, &c)
	return c, err
}

// IssueCodes issues n codes and returns them by user.
func (s *Harness) IssueCodes(n int) (codes map[int64]string) {
	s.T.Helper()
	codes = map[int64]string{}
	for range n {
		c, err := s.IssueCode(s.T.Context(), s.API)
		if err != nil {
			s.T.Fatal(err)
		}
		codes[c.User] = c.Code
	}
	return codes
}

// RedeemCode sends a code to the bot. It returns an error unless the identity is verified within
// EventTimeout.
func (s *Harness) RedeemCode(ctx context.Context, api *Client, c IssuedCode) error {
	s.Telegram.SendText(TelegramBot, simulator.TelegramUser{ID: c.User, FirstName: "Steve"}, "/claim "+c.Code)
	ctx, cancel := context.WithTimeout(ctx, EventTimeout)
	defer cancel()
	for ctx.Err() == nil {
		var linked struct{ Verified bool }
		err := api.CallJSON(ctx, "GET", c.path, nil, http.StatusOK, &linked)
		if err != nil || linked.Verified {
			return err
		}
		EveryInterval(50*time.Millisecond)(ctx, 0)
	}
	return fmt.Errorf("identity %s is not verified: %w", c.path, ctx.Err())
}
