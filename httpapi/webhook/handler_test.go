package webhook

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
)

// acceptAll is an EndpointSource that finds every endpoint, and an Acceptor that accepts
// everything.
type acceptAll struct{}

func (acceptAll) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, nil
}

func (acceptAll) Refresh(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, gateway.ErrNoEndpoint
}

func (acceptAll) Accept(context.Context, adapters.Endpoint, adapters.Inbound) error { return nil }

// TestHandler_PanicStatus checks that the handler asks for the status that makes the provider
// retry.
func TestHandler_PanicStatus(t *testing.T) {
	h := &Handler{Endpoints: acceptAll{}, Inbox: acceptAll{}, Log: slog.New(slog.DiscardHandler)}
	info := &operation.RequestInfo{}
	r := httptest.NewRequest(http.MethodPost, "/hooks/telegram/01a2012b-02ef-71ed-ade5-af96a0001aeb", http.NoBody)
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(operation.WithRequestInfo(t.Context(), info)))
	if info.PanicStatus != http.StatusServiceUnavailable {
		t.Errorf("PanicStatus = %d, want %d", info.PanicStatus, http.StatusServiceUnavailable)
	}
}
