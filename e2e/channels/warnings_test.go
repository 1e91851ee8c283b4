package channels

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/e2e/harness"
)

// TestOtherChannel_Warning checks that staff see in the status of a channel that messages arrive from another
// one.
func TestOtherChannel_Warning(t *testing.T) {
	harness.ForEachEngine(t, func(t *testing.T, engine harness.Engine) {
		h, _ := harness.Start(t, harness.Options{Engine: engine, InProcess: true})
		target := h.API.URL + "/hooks/sms/" + h.InstanceID
		form := url.Values{
			"AccountSid": {harness.TwilioAccount}, "MessageSid": {"SM" + strings.Repeat("1", 32)},
			"From": {"messenger:28461373520009"}, "To": {harness.SMSBotNumber}, "Body": {"hi"}, "NumMedia": {"0"},
		}
		client := harness.Client{HTTP: h.API.HTTP}
		res, err := client.Do(t.Context(), http.MethodPost, target, http.Header{
			"Content-Type":       {"application/x-www-form-urlencoded"},
			"X-Twilio-Signature": {harness.TwilioSignature(harness.TwilioToken, target, form)},
		}, form.Encode())
		if err != nil || res.Status != http.StatusOK {
			t.Fatalf("webhook = %+v, %v", res, err)
		}
		var list struct {
			Channels []struct {
				Channel, Status string
				Warnings        []string
			}
		}
		h.MustCall("GET", "/v1/instances/"+h.InstanceID+"/channels", nil, http.StatusOK, &list)
		for _, c := range list.Channels {
			found := strings.Contains(strings.Join(c.Warnings, " "), "messages from messenger")
			if found != (c.Channel == "sms") || c.Channel == "sms" && c.Status != "active" {
				t.Errorf("channel = %+v, want a warning on SMS alone", c)
			}
		}
	})
}

// requireRefusal checks that a refused webhook is shown with its reason, the URL and a request ID, and
// that it does not change the status.
func (s *statusFixture) requireRefusal() {
	s.T.Helper()
	c := s.find(adapters.SMS, "slow")
	path := "/hooks/sms/" + c.instance
	res, err := s.API.Do(s.T.Context(), http.MethodPost, path, http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "X-Twilio-Signature": {"forged"},
	}, "Body=hi")
	if err != nil || res.Status != http.StatusForbidden {
		s.T.Fatalf("forged webhook: status %d, %v, want 403", res.Status, err)
	}
	shown := s.show(c)
	want := fmt.Sprintf("checked against %s, request %s", s.Settings.PublicURL+path, res.Header.Get("X-Request-Id"))
	if warnings := strings.Join(shown.Warnings, "\n"); shown.Status != "active" || !strings.Contains(warnings, want) ||
		!strings.Contains(warnings, "(signature)") {
		s.T.Errorf("channel after a forged webhook = %+v, want active with the warning %q", shown, want)
	}
	for _, part := range []string{
		`"webhook rejected"`, `"reason":"signature"`, c.instance, s.Settings.PublicURL + path, res.Header.Get("X-Request-Id"),
	} {
		if !slices.ContainsFunc(strings.Split(s.Log.String(), "\n"), func(line string) bool {
			return strings.Contains(line, "webhook rejected") && strings.Contains(line, part)
		}) {
			s.T.Errorf("no log line of the refused webhook contains %s", part)
		}
	}
	metrics, err := s.API.Do(s.T.Context(), http.MethodGet, "/metrics", harness.BearerHeader(harness.AdminKey), "")
	line := fmt.Sprintf("hydragate_hooks_refused_total{channel=\"sms\",instance=%q,reason=\"signature\"} 1\n", c.instance)
	if err != nil || !strings.Contains(metrics.Body, line) {
		s.T.Errorf("the metrics do not contain %s: %v", line, err)
	}
}
