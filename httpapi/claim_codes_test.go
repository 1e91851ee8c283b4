package httpapi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
)

func TestIdempotency_ClaimCodeNotStored(t *testing.T) {
	w := newHarness(t)
	path := "/v1/customers/" + w.customer + "/identities/" + w.tenantIdentity + "/claim-code"
	for range 2 {
		got := w.request("POST", path, "", "Idempotency-Key: c")
		w.expect(got, 201, "")
		if got.header.Get("Idempotency-Replayed") != "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", got.header)
		}
	}
	if len(w.store.answers) != 0 {
		t.Error("an answer was kept")
	}
	if op := w.request("GET", "/openapi.json", "").body; !strings.Contains(op, "Idempotency-Key is ignored") || strings.Contains(op, "ends the one before") {
		t.Error("not documented, or as if an invite or another secret ended the one before")
	}
	if slices.Contains(strings.Fields(w.log.String()), "WDJBMJ") || strings.Contains(w.log.String(), "WDJBMJ") {
		t.Error("the code is in the log")
	}
}

func TestIssueClaimCode(t *testing.T) {
	w := newHarness(t, func(a *API) {
		a.Instructions = func(i claim.IssuedCode, s gateway.EndpointState, ok bool) string {
			return map[bool]string{true: "to @" + s.Settings[adapters.BotUsername], false: "somewhere"}[ok]
		}
	})
	of := "/v1/customers/" + w.customer + "/identities/"
	w.expect(w.request("POST", of+w.instanceIdentity+"/claim-code", ""), 201, `{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":"`+w.instanceIdentity+`","instructions":"somewhere"}`)
	w.setUpChannels()
	w.expect(w.request("POST", of+w.instanceIdentity+"/claim-code", ""), 201, `{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":"`+w.instanceIdentity+`","instructions":"to @acme_bot"}`)
	w.claims.err = &claim.TooManyCodesError{RetryAfter: 1500 * time.Millisecond}
	if got := w.request("POST", of+w.instanceIdentity+"/claim-code", ""); got.status != 429 || got.header.Get("Retry-After") != "2" {
		t.Errorf("%d %v", got.status, got.header)
	}
	w.claims.err = claim.ErrCodeStoreUnavailable
	w.expect(w.request("POST", of+w.instanceIdentity+"/claim-code", ""), 503, `{"detail":"Service Unavailable"}`)
	w.claims.err = nil
	w.request("PATCH", of+w.instanceIdentity, `{"verified":true}`)
	w.expect(w.request("POST", of+w.instanceIdentity+"/claim-code", ""), 409, `{"detail":"Identity is already verified"}`)
}
