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

// An apiClient calls the REST API of the gateway.
type apiClient struct {
	URL, Key string
}

// An identityResponse is an identity in a response of the API.
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

// A codeResponse is the response to a request for a claim code.
type codeResponse struct {
	Code         string `json:"code"`
	ExpiresIn    int    `json:"expires_in_seconds"`
	Instructions string `json:"instructions"`
}

// A JSONObject is a JSON object of a request.
type JSONObject map[string]any

// Call sends a request to the API and decodes the response into response, unless that is nil. It
// returns an error for every status other than 2xx.
func (c *apiClient) Call(ctx context.Context, method, path string, body, response any) error {
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
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.Key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := new(http.Client).Do(r) // ctx has a deadline
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: status %d: %s", method, path, resp.StatusCode, strings.TrimSpace(string(b)))
	case response == nil:
		return nil
	}
	if err := json.Unmarshal(b, response); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// CreateInstance creates the instance of the demo and returns its id and webhook secret.
func (c *apiClient) CreateInstance(ctx context.Context, appURL string) (id, secret string, err error) {
	var created struct {
		ID            string `json:"id"`
		WebhookSecret string `json:"webhook_secret"`
	}
	err = c.Call(ctx, "POST", "/v1/instances", JSONObject{"name": "Demo", "agent_url": appURL}, &created)
	return created.ID, created.WebhookSecret, err
}

// createCustomer creates Steve, the customer of the demo, and returns his id.
func (c *apiClient) createCustomer(ctx context.Context) (id string, err error) {
	var created struct {
		ID string `json:"id"`
	}
	err = c.Call(ctx, "POST", "/v1/customers", JSONObject{"first_name": "Steve", "email": "steve@example.com"}, &created)
	return created.ID, err
}

// connectChannel connects a channel of an instance and returns its webhook URL.
func (c *apiClient) connectChannel(
	ctx context.Context, instance string, channel adapters.Channel, account JSONObject,
) (webhookURL string, err error) {
	var endpoint struct {
		Status     string `json:"status"`
		WebhookURL string `json:"webhook_url"`
		Message    string `json:"message"`
	}
	path := "/v1/instances/" + instance + "/channels/" + string(channel)
	if err := c.Call(ctx, "POST", path, account, &endpoint); err != nil {
		return "", err
	}
	if endpoint.Status != "active" || endpoint.WebhookURL == "" {
		return "", fmt.Errorf("%s is not active: its status is %q: %s", channel, endpoint.Status, endpoint.Message)
	}
	return endpoint.WebhookURL, nil
}

// findUnknown returns the identity of a sender that belongs to no customer.
func (c *apiClient) findUnknown(
	ctx context.Context, instance string, channel adapters.Channel, externalID string,
) (identityResponse, error) {
	for cursor := ""; ; {
		var page struct {
			Items      []identityResponse `json:"items"`
			NextCursor string             `json:"next_cursor"`
		}
		q := url.Values{"customer": {"none"}, "instance_id": {instance}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := c.Call(ctx, "GET", "/v1/identities?"+q.Encode(), nil, &page); err != nil {
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

// adoptIdentity links the identity of an unknown sender to a customer, and sets its name.
func (c *apiClient) adoptIdentity(ctx context.Context, customer, identityID, name string) error {
	path := "/v1/customers/" + customer + "/identities/" + identityID
	if err := c.Call(ctx, "POST", path+"/adopt", nil, nil); err != nil {
		return err
	}
	return c.Call(ctx, "PATCH", path, JSONObject{"display_name": name}, nil)
}

// LinkIdentity links an account to a customer, for one instance.
func (c *apiClient) LinkIdentity(
	ctx context.Context, customer, instance string, channel adapters.Channel, externalID, name string,
) (i identityResponse, err error) {
	body := JSONObject{"channel": channel, "external_id": externalID, "instance_id": instance, "display_name": name}
	err = c.Call(ctx, "POST", "/v1/customers/"+customer+"/identities", body, &i)
	return i, err
}

// GetIdentity returns an identity of a customer.
func (c *apiClient) GetIdentity(ctx context.Context, customer, identityID string) (i identityResponse, err error) {
	err = c.Call(ctx, "GET", "/v1/customers/"+customer+"/identities/"+identityID, nil, &i)
	return i, err
}

// IssueCode issues a claim code for an identity.
func (c *apiClient) IssueCode(ctx context.Context, customer, identityID string) (code codeResponse, err error) {
	err = c.Call(ctx, "POST", "/v1/customers/"+customer+"/identities/"+identityID+"/claim-code", nil, &code)
	return code, err
}
