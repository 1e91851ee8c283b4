package gateway

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Span attributes that the OpenTelemetry conventions do not define. Attributes never contain
// message text, claim codes, external IDs or tokens.
const (
	TraceChannel  = "hydragate.channel"
	TraceInstance = "hydragate.instance.id"
	TraceOutcome  = "hydragate.outcome"
)

// StartSpan starts a span for an operation on an item of a queue.
func StartSpan(ctx context.Context, operation, queue string, kind trace.SpanKind) (context.Context, trace.Span) {
	ctx, span := otel.Tracer("hydragate/gateway").Start(ctx, operation+" "+queue, trace.WithSpanKind(kind))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("messaging.system", "hydragate"),
			attribute.String("messaging.destination.name", queue),
			attribute.String("messaging.operation.name", operation),
			attribute.String("messaging.operation.type", operation))
	}
	return ctx, span
}

// SetSpanError marks a span as failed. kind is from a closed set, since the text of an error may
// contain data that must not be traced.
func SetSpanError(span trace.Span, kind string) {
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, "")
}
