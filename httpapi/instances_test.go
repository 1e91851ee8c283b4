package httpapi

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestCreateInstance_SecretsShownOnce(t *testing.T) {
	h := newHarness(t, func(a *API) { a.AllowPrivateAgentURLs = true })
	made := h.request("POST", "/v1/instances", `{"name":"Support","agent_url":"http://127.0.0.1:9000/events"}`).fields(t)
	secret, _ := strings.CutPrefix(made["webhook_secret"].(string), "whsec_")
	if raw, err := base64.StdEncoding.DecodeString(secret); err != nil || len(raw) != 32 || !strings.HasPrefix(
		made["agent_secret_key"].(string), "ask_",
	) {
		t.Errorf("%v", made)
	}
	if again := h.request("GET", "/v1/instances/"+made["id"].(string), "").body; strings.Contains(again, "secret") {
		t.Error(again)
	}
}
