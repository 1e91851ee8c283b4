package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hydragate/adapters"
)

// A apiClient works with the gateway as any program does: by its API, with a key.
type apiClient struct {
	URL, Key string
}

// An identityResponse is what the API answers of an identity.
type identityResponse struct {
	ID           string     `json:"id"`
	CustomerID   string     `json:"customer_id"`
	ExternalID   string     `json:"external_id"`
	Channel      string     `json:"channel"`
	DisplayName  string     `json:"display_name"`
	RoleOverride string     `json:"role_override"`
	Verified     bool       `json:"verified"`
	VerifiedAt   *time.Time `json:"verified_at"`
}

// An codeResponse is what the API answers when a code is issued.
type codeResponse struct {
	Code         string `json:"code"`
	ExpiresIn    int    `json:"expires_in_seconds"`
	Instructions string `json:"instructions"`
}

type JSONObject map[string]any

// Call makes one call and reads the answer into answer, unless that is nil.
func (s *apiClient) Call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+s.Key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s answers %d: %s", method, path, resp.StatusCode, strings.TrimSpace(string(said)))
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(said, answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// CreateInstance makes the demo's instance and gives its id and webhook secret.
func (s *apiClient) CreateInstance(ctx context.Context, agentURL string) (id, secret string, err error) {
	var made struct {
		ID            string `json:"id"`
		WebhookSecret string `json:"webhook_secret"`
	}
	err = s.Call(ctx, "POST", "/v1/instances", JSONObject{"name": "Demo", "agent_url": agentURL}, &made)
	return made.ID, made.WebhookSecret, err
}

// createCustomer makes the demo's customer.
func (s *apiClient) createCustomer(ctx context.Context) (id string, err error) {
	var made struct {
		ID string `json:"id"`
	}
	err = s.Call(ctx, "POST", "/v1/customers", JSONObject{"first_name": "Steve", "email": "steve@example.com"}, &made)
	return made.ID, err
}

// setUpChannel sets one channel up and gives the URL of its hook.
func (s *apiClient) setUpChannel(ctx context.Context, instance string, channel adapters.Channel, account JSONObject) (hook string, err error) {
	var made struct {
		Status     string `json:"status"`
		WebhookURL string `json:"webhook_url"`
		Message    string `json:"message"`
	}
	if err := s.Call(ctx, "POST", "/v1/instances/"+instance+"/channels/"+string(channel), account, &made); err != nil {
		return "", err
	}
	if made.Status != "active" || made.WebhookURL == "" {
		return "", fmt.Errorf("the channel %s is set up and not active: %s %s", channel, made.Status, made.Message)
	}
	return made.WebhookURL, nil
}

// findUnknown finds somebody who wrote and whom nobody knows.
func (s *apiClient) findUnknown(ctx context.Context, instance string, channel adapters.Channel, externalID string) (identityResponse, error) {
	for cursor := ""; ; {
		var page struct {
			Items      []identityResponse `json:"items"`
			NextCursor string             `json:"next_cursor"`
		}
		q := url.Values{"customer": {"none"}, "instance_id": {instance}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := s.Call(ctx, "GET", "/v1/identities?"+q.Encode(), nil, &page); err != nil {
			return identityResponse{}, err
		}
		for _, i := range page.Items {
			if i.Channel == string(channel) && i.ExternalID == externalID {
				return i, nil
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return identityResponse{}, fmt.Errorf("%s is not among the unknown senders", externalID)
		}
	}
}

// adoptIdentity links an unknown sender to a customer, under a name.
func (s *apiClient) adoptIdentity(ctx context.Context, customer, identityID, name string) error {
	at := "/v1/customers/" + customer + "/identities/" + identityID
	if err := s.Call(ctx, "POST", at+"/adopt", nil, nil); err != nil {
		return err
	}
	return s.Call(ctx, "PATCH", at, JSONObject{"display_name": name}, nil)
}

// LinkIdentity links an account that staff knows to a customer, for one instance.
func (s *apiClient) LinkIdentity(ctx context.Context, customer, instance string, channel adapters.Channel, externalID, name string) (i identityResponse, err error) {
	body := JSONObject{"channel": channel, "external_id": externalID, "instance_id": instance, "display_name": name}
	err = s.Call(ctx, "POST", "/v1/customers/"+customer+"/identities", body, &i)
	return i, err
}

func (s *apiClient) GetIdentity(ctx context.Context, customer, identityID string) (i identityResponse, err error) {
	err = s.Call(ctx, "GET", "/v1/customers/"+customer+"/identities/"+identityID, nil, &i)
	return i, err
}

func (s *apiClient) IssueCode(ctx context.Context, customer, identityID string) (c codeResponse, err error) {
	err = s.Call(ctx, "POST", "/v1/customers/"+customer+"/identities/"+identityID+"/claim-code", nil, &c)
	return c, err
}
