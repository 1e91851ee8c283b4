package outbox

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"hydragate/gateway"
)

// startSend starts the span of one attempt to send a reply.
func startSend(ctx context.Context, row gateway.OutboxRow) (context.Context, trace.Span) {
	ctx, span := gateway.StartSpan(ctx, "send", "outbox", trace.SpanKindClient)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("messaging.message.id", row.ID),
			attribute.String("messaging.message.conversation_id", row.ConversationID),
			attribute.String(gateway.TraceInstance, row.InstanceID),
			attribute.String(gateway.TraceChannel, string(row.Channel)),
			attribute.String("hydragate.cause", row.Cause),
			attribute.Int("hydragate.attempt", row.Attempts))
	}
	return ctx, span
}

// endSend records the result of the attempt and ends its span.
func endSend(span trace.Span, r gateway.SendResult) {
	if span.IsRecording() {
		span.SetAttributes(attribute.String(gateway.TraceOutcome, string(r.Status)))
		if r.Reason != "" {
			gateway.SetSpanError(span, string(r.Reason))
		}
	}
	span.End()
}
