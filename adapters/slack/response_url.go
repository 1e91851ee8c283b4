package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"hydragate/adapters"
)

// responseURLHost is the host of the response URLs of slash commands.
const responseURLHost = "hooks.slack.com"

// escapeText escapes text so that it cannot mention anyone or hide the target of a link.
func escapeText(text string) string { return textEscaper.Replace(text) }

var textEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// isResponseURL reports whether address is a response URL: on Slack's host or, with another API
// server, on its origin. Replies are posted nowhere else, even if an authenticated request names
// another address.
func (a *Adapter) isResponseURL(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	server, err := url.Parse(a.apiURL())
	if err != nil {
		return false
	}
	if server.Hostname() == "slack.com" {
		return u.Scheme == "https" && u.Host == responseURLHost
	}
	return server.Host != "" && u.Scheme == server.Scheme && u.Host == server.Host
}

// postToResponseURL posts a reply to the response URL of a slash command or interaction. accepted is false if
// Slack no longer accepts replies there: a URL is valid for five replies within 30 minutes.
func (a *Adapter) postToResponseURL(ctx context.Context, reply adapters.Reply) (accepted bool, err error) {
	body, err := json.Marshal(map[string]any{
		"response_type": "ephemeral", "replace_original": false, "mrkdwn": false,
		"unfurl_links": false, "unfurl_media": false, "text": escapeText(reply.Text),
	})
	if err != nil {
		return false, &adapters.SendError{
			Reason: adapters.Refused,
			Code:   "encoding",
			Err:    fmt.Errorf("encode reply: %w", err),
		}
	}
	c := a.newCall()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, reply.Chat.ReplyToken, bytes.NewReader(body))
	if err != nil {
		return false, nil
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := c.Do(r)
	if err != nil {
		return false, c.sendError(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 2:
		return !isErrorResponse(resp.Body), nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode/100 == 5:
		e := adapters.ErrorFromStatus(resp.StatusCode, strconv.Itoa(resp.StatusCode))
		e.RetryAfter = c.retryAfter
		return false, e
	}
	return false, nil
}

// isErrorResponse reports whether a response reports an error despite its status.
func isErrorResponse(body io.Reader) bool {
	var said struct {
		OK *bool `json:"ok"`
	}
	b, _ := io.ReadAll(io.LimitReader(body, 64<<10))
	return json.Unmarshal(b, &said) == nil && said.OK != nil && !*said.OK
}
