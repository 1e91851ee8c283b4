package channels

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

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
