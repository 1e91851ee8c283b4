package process

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"hydragate/gateway"
)

// messageSpans are the spans of messages that share a commit. They end after the commit.
type messageSpans []trace.Span

// start starts the span of a message.
func (s *messageSpans) start(ctx context.Context, in gateway.StoredMessage) context.Context {
	ctx, span := gateway.StartSpan(ctx, "process", "inbox", trace.SpanKindConsumer)
	if !span.IsRecording() {
		return ctx
	}
	span.SetAttributes(
		attribute.String("messaging.message.id", in.ID),
		attribute.String("messaging.message.conversation_id", in.ConversationID),
		attribute.String(gateway.TraceInstance, in.InstanceID),
		attribute.String(gateway.TraceChannel, string(in.Channel)),
		attribute.Int("hydragate.attempt", in.Attempts+1))
	*s = append(*s, span)
	return ctx
}

// setOutcome records the result of the message whose span was started last. The text of err is only
// logged, since it may contain data that must not be traced.
func (s *messageSpans) setOutcome(d decision, err error) {
	if len(*s) == 0 {
		return
	}
	span := (*s)[len(*s)-1]
	if err != nil {
		gateway.SetSpanError(span, "process_failed")
		return
	}
	span.SetAttributes(attribute.String(gateway.TraceOutcome, d.outcome))
}

// end ends all spans.
func (s *messageSpans) end() {
	for _, span := range *s {
		span.End()
	}
}
