package httpapi

import (
	"strings"
	"testing"
	"time"

	"hydragate/claim"
)

func TestIdempotency_ClaimCodeNotStored(t *testing.T) {
	h := newHarness(t)
	path := "/v1/customers/" + h.customer + "/identities/" + h.tenantIdentity + "/claim-code"
	for range 2 {
		got := h.request("POST", path, "", "Idempotency-Key: c")
		h.expect(got, 201, "")
		if got.header.Get("Idempotency-Replayed") != "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("header = %v", got.header)
		}
	}
	if len(h.store.Responses) != 0 {
		t.Error("the response was stored")
	}
	if op := h.request("GET", "/openapi.json", "").body; !strings.Contains(op, "Idempotency-Key is ignored") ||
		strings.Contains(op, "ends the one before") {
		t.Error(
			"the document does not say that Idempotency-Key is ignored, or says that all secrets replace the previous one",
		)
	}
	if strings.Contains(h.log.String(), "WDJBMJ") {
		t.Error("the log contains the code")
	}
}

func TestIssueClaimCode(t *testing.T) {
	h := newHarness(t)
	path := "/v1/customers/" + h.customer + "/identities/"
	const spelled = " and send /claim WDJ-BMJ (Whiskey Delta Juliett, Bravo Mike Juliett) within 15 minutes."
	h.expect(
		h.request("POST", path+h.instanceIdentity+"/claim-code", ""),
		201,
		`{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":"`+h.instanceIdentity+
			`","instructions":"Write to the Telegram bot of Support`+spelled+`"}`,
	)
	h.setUpChannels()
	h.expect(
		h.request("POST", path+h.instanceIdentity+"/claim-code", ""),
		201,
		`{"code":"WDJBMJ","expires_in_seconds":900,"identity_id":"`+h.instanceIdentity+
			`","instructions":"Write to @acme_bot on Telegram`+spelled+`"}`,
	)
	h.claims.Err = &claim.TooManyCodesError{RetryAfter: 1500 * time.Millisecond}
	if got := h.request(
		"POST", path+h.instanceIdentity+"/claim-code", "",
	); got.status != 429 || got.header.Get("Retry-After") != "2" {
		t.Errorf("got %d %v, want 429 with Retry-After 2", got.status, got.header)
	}
	h.claims.Err = claim.ErrCodeStoreUnavailable
	h.expect(h.request("POST", path+h.instanceIdentity+"/claim-code", ""), 503, `{"detail":"Service Unavailable"}`)
	h.claims.Err = nil
	h.request("PATCH", path+h.instanceIdentity, `{"verified":true}`)
	h.expect(
		h.request("POST", path+h.instanceIdentity+"/claim-code", ""),
		409,
		`{"detail":"Identity is already verified"}`,
	)
}
