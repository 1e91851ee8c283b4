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

// A controlClient calls the simulator.Control of a demo that runs in another process.
type controlClient struct{ url string }

// pollTimeout is how long one request for new lines of a conversation waits.
const pollTimeout = 25 * time.Second

// info returns the addresses of the bot.
func (c *controlClient) info(ctx context.Context) (info simulator.ControlInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.call(ctx, "GET", "/", nil, &info); err != nil {
		return info, err
	}
	if len(info.Addresses) == 0 {
		return info, c.notDemoError()
	}
	return info, nil
}

// send sends a message and returns after the gateway has accepted it.
func (c *controlClient) send(ctx context.Context, s simulator.SendRequest) (resp simulator.SendResponse, err error) {
	body, err := json.Marshal(s)
	if err != nil {
		return resp, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*stepTimeout) // the simulated Twilio gives up after 15 s
	defer cancel()
	err = c.call(ctx, "POST", "/say", body, &resp)
	return resp, err
}

// transcript returns the lines of a conversation after the first ones. If there are none, it waits
// for the next line, but not longer than wait.
func (c *controlClient) transcript(
	ctx context.Context, channel adapters.Channel, sender string, after int, wait time.Duration,
) (t simulator.TranscriptPage, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait+stepTimeout)
	defer cancel()
	q := url.Values{
		"channel": {string(channel)},
		"as":      {sender},
		"after":   {strconv.Itoa(after)},
		"wait":    {strconv.Itoa(int(wait.Seconds()))},
	}
	err = c.call(ctx, "GET", "/transcript?"+q.Encode(), nil, &t)
	return t, err
}

func (c *controlClient) call(ctx context.Context, method, path string, body []byte, response any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return errors.New("--demo must be a URL, such as http://127.0.0.1:8089")
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := new(http.Client).Do(r) // ctx has a deadline
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the demo at %s did not answer in time: try again", c.url)
	}
	if err != nil {
		return fmt.Errorf("no demo runs at %s: start one with hydragate demo, or pass its address with --demo", c.url)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return fmt.Errorf("the demo at %s has stopped", c.url)
	}
	var failure struct {
		Error string `json:"error"`
	}
	switch _ = json.Unmarshal(b, &failure); {
	case resp.StatusCode/100 != 2 && failure.Error != "":
		return errors.New(failure.Error)
	case resp.StatusCode/100 != 2 || json.Unmarshal(b, response) != nil:
		return c.notDemoError()
	}
	return nil
}

func (c *controlClient) notDemoError() error {
	return fmt.Errorf("the server at %s is not a demo of hydragate: "+
		"pass the address that the demo prints with --demo", c.url)
}
