package delivery

import (
	"context"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"hydragate/gateway"
)

// startPost starts the span of one attempt. The path and query of the agent URL are not recorded,
// because they may be secret.
func startPost(ctx context.Context, e gateway.Event) (context.Context, trace.Span) {
	ctx, span := otel.Tracer("hydragate/gateway/delivery").
		Start(ctx, http.MethodPost, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("http.request.method", http.MethodPost),
			attribute.Int("http.request.resend_count", e.Attempts),
			attribute.String(
				"messaging.message.id",
				e.MessageID,
			),
			attribute.String("messaging.message.conversation_id", e.ConversationID),
			attribute.String("hydragate.delivery.id", e.ID),
			attribute.String("hydragate.event.type", string(e.Type)),
			attribute.String(gateway.TraceInstance, e.InstanceID),
			attribute.String(gateway.TraceChannel, string(e.Channel)),
		)
	}
	return ctx, span
}

// propagate lets the application continue the trace (W3C Trace Context).
func propagate(ctx context.Context, req *http.Request) {
	span := trace.SpanFromContext(ctx)
	if !span.SpanContext().IsValid() {
		return
	}
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(req.Header))
	span.SetAttributes(attribute.String("server.address", req.URL.Hostname()), attribute.Int("server.port", portOf(req)))
}

func portOf(req *http.Request) int {
	if n, err := strconv.Atoi(req.URL.Port()); err == nil {
		return n
	}
	if req.URL.Scheme == "https" {
		return 443
	}
	return 80
}

func endPost(span trace.Span, status int, err error) {
	if span.IsRecording() {
		outcome := gateway.Delivered
		if err != nil {
			outcome = gateway.Pending
			kind := "unreachable"
			if status != 0 {
				kind = strconv.Itoa(status)
			}
			span.SetAttributes(attribute.String("error.type", kind))
			span.SetStatus(codes.Error, "")
		}
		span.SetAttributes(attribute.String(gateway.TraceOutcome, string(outcome)))
		if status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
		}
	}
	span.End()
}
