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

// StartSpan begins a span of work on a message that waited in a queue of the house.
func StartSpan(ctx context.Context, operation, queue string, kind trace.SpanKind) (context.Context, trace.Span) {
	ctx, span := otel.Tracer("hydragate/gateway").Start(ctx, operation+" "+queue, trace.WithSpanKind(kind))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("messaging.system", "hydragate"), attribute.String("messaging.destination.name", queue),
			attribute.String("messaging.operation.name", operation), attribute.String("messaging.operation.type", operation))
	}
	return ctx, span
}

// SetSpanError marks a span with the kind of error, out of a closed set.
func SetSpanError(span trace.Span, kind string) {
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, "")
}
