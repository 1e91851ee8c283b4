package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// A controlClient types and listens at a demo that runs in another process.
type controlClient struct{ url string }

// pollTimeout is how long one call waits for something to be said.
const pollTimeout = 25 * time.Second

func (c *controlClient) info(ctx context.Context) (l simulator.ControlInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.call(ctx, "GET", "/", nil, &l); err != nil {
		return l, err
	}
	if len(l.Addresses) == 0 {
		return l, fmt.Errorf("what answers at %s is not a demo of hydragate", c.url)
	}
	return l, nil
}

func (c *controlClient) send(ctx context.Context, s simulator.SendRequest) (said simulator.SendResponse, err error) {
	body, err := json.Marshal(s)
	if err != nil {
		return said, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*stepTimeout) // Twilio takes 15 s to give up
	defer cancel()
	return said, c.call(ctx, "POST", "/say", body, &said)
}

func (c *controlClient) transcript(ctx context.Context, channel adapters.Channel, as string, after int, wait time.Duration) (t simulator.TranscriptPage, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait+stepTimeout)
	defer cancel()
	q := url.Values{"channel": {string(channel)}, "as": {as}, "after": {strconv.Itoa(after)}, "wait": {strconv.Itoa(int(wait.Seconds()))}}
	return t, c.call(ctx, "GET", "/transcript?"+q.Encode(), nil, &t)
}

func (c *controlClient) call(ctx context.Context, method, path string, body []byte, answer any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--demo must be a URL, such as http://127.0.0.1:8089")
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the demo at %s did not answer in time: try again", c.url)
	}
	if err != nil {
		return fmt.Errorf("no demo answers at %s: start one with hydragate demo, or say with --demo where it is", c.url)
	}
	defer func() { _ = resp.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return fmt.Errorf("the demo at %s went away", c.url)
	}
	var refused struct {
		Error string `json:"error"`
	}
	switch _ = json.Unmarshal(said, &refused); {
	case resp.StatusCode/100 != 2 && refused.Error != "":
		return errors.New(refused.Error)
	case resp.StatusCode/100 != 2 || json.Unmarshal(said, answer) != nil:
		return fmt.Errorf("what answers at %s is not a demo of hydragate", c.url)
	}
	return nil
}
