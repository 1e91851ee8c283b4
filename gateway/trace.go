package gateway

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Names of the house beside those of the OpenTelemetry conventions. Attributes hold
// ids, channels and outcomes: no text, no code, no external id and no token.
const (
	TraceChannel  = "hydragate.channel"
	TraceInstance = "hydragate.instance.id"
	TraceOutcome  = "hydragate.outcome"
)

// startSpan begins a span of work on a message that waited in a queue of the house.
func startSpan(ctx context.Context, operation, queue string, kind trace.SpanKind) (context.Context, trace.Span) {
	ctx, span := otel.Tracer("hydragate/gateway").Start(ctx, operation+" "+queue, trace.WithSpanKind(kind))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("messaging.system", "hydragate"), attribute.String("messaging.destination.name", queue),
			attribute.String("messaging.operation.name", operation), attribute.String("messaging.operation.type", operation))
	}
	return ctx, span
}

// workSpans are the spans of messages that are settled together: they end then.
type workSpans []trace.Span

func (s *workSpans) begin(ctx context.Context, in Inbound) context.Context {
	ctx, span := startSpan(ctx, "process", "inbox", trace.SpanKindConsumer)
	if !span.IsRecording() {
		return ctx
	}
	span.SetAttributes(
		attribute.String("messaging.message.id", in.ID), attribute.String("messaging.message.conversation_id", in.ConversationID),
		attribute.String(TraceInstance, in.InstanceID), attribute.String(TraceChannel, string(in.Channel)), attribute.Int("hydragate.attempt", in.Attempts+1))
	*s = append(*s, span)
	return ctx
}

// decided says what became of the message begun last. Errors may name what a trace
// must not, and stay in the log.
func (s *workSpans) decided(v verdict, err error) {
	if len(*s) == 0 {
		return
	}
	span := (*s)[len(*s)-1]
	if err != nil {
		failed(span, "stumbled")
		return
	}
	span.SetAttributes(attribute.String(TraceOutcome, v.outcome))
}

func (s *workSpans) end() {
	for _, span := range *s {
		span.End()
	}
}

// startSend begins the span of one attempt to send a reply.
func startSend(ctx context.Context, row OutboxRow) (context.Context, trace.Span) {
	ctx, span := startSpan(ctx, "send", "outbox", trace.SpanKindClient)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("messaging.message.id", row.ID), attribute.String("messaging.message.conversation_id", row.ConversationID),
			attribute.String(TraceInstance, row.InstanceID), attribute.String(TraceChannel, string(row.Channel)),
			attribute.String("hydragate.cause", row.Cause), attribute.Int("hydragate.attempt", row.Attempts))
	}
	return ctx, span
}

func endSend(span trace.Span, r SendResult) {
	if span.IsRecording() {
		span.SetAttributes(attribute.String(TraceOutcome, string(r.Status)))
		if r.Reason != "" {
			failed(span, string(r.Reason))
		}
	}
	span.End()
}

// failed marks a span with the kind of error, out of a closed set.
func failed(span trace.Span, kind string) {
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, "")
}
