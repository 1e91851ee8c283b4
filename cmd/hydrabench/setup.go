package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// connect makes an instance and its channels through the public API, as staff would,
// and gives their hooks. The instance has no agent: what is measured is the way in.
func (g *gateway) connect(ctx context.Context, p *providers, channels []string) ([]hook, error) {
	var instance struct {
		ID string `json:"id"`
	}
	if err := g.call(ctx, "/v1/instances", map[string]string{"name": "Bench"}, &instance); err != nil {
		return nil, err
	}
	setUps := map[string]map[string]string{
		telegramChannel: {"bot_token": p.botToken},
		smsChannel:      {"account_sid": p.account, "auth_token": p.token, "phone_number": phoneNumber},
		slackChannel:    {"bot_token": p.app.Token, "signing_secret": p.app.SigningSecret},
	}
	var hooks []hook
	for _, c := range channels {
		var seat struct {
			Status     string `json:"status"`
			WebhookURL string `json:"webhook_url"`
		}
		if err := g.call(ctx, "/v1/instances/"+instance.ID+"/channels/"+c, setUps[c], &seat); err != nil {
			return nil, err
		}
		if seat.Status != "active" {
			return nil, fmt.Errorf("set up %s: its status is %q", c, seat.Status)
		}
		hooks = append(hooks, p.hook(c, seat.WebhookURL))
	}
	return hooks, nil
}

// call posts in to a path of the API and reads the answer into out.
func (g *gateway) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Api-Key", g.adminKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("call %s: status %d: %s", path, resp.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}
