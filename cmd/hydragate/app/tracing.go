package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"hydragate/gateway"
)

// traceFlushTimeout bounds the export of the last spans when the process stops.
const traceFlushTimeout = 2 * time.Second

// startTracing exports spans to the collector at endpoint, by OTLP over HTTP. Other variables of the
// OpenTelemetry specification, such as OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME and
// OTEL_TRACES_SAMPLER, apply too. If endpoint is empty, it does nothing. An unavailable collector
// does not delay the gateway. stop exports the remaining spans, for at most traceFlushTimeout.
func startTracing(ctx context.Context, endpoint string, log *slog.Logger) (stop func(), err error) {
	if endpoint == "" {
		return func() {}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, InvalidSetting("OTEL_EXPORTER_OTLP_ENDPOINT", "cannot be used: "+err.Error())
	}
	res, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "hydragate"), attribute.String("service.version", Version())),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // last, so that the environment overrides the others
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, InvalidSetting("OTEL_RESOURCE_ATTRIBUTES", "cannot be used: "+err.Error())
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.WarnContext(ctx, "export traces failed", "error", err)
	}))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(provider)
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceFlushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.WarnContext(ctx, "export last traces failed", "error", err)
		}
		otel.SetTracerProvider(noop.NewTracerProvider())
	}, nil
}

// traceRequests starts a span for every request, named by its route. Clients of the API may continue
// a trace; requests to webhooks may not, because anyone can send them.
func traceRequests(next http.Handler) http.Handler {
	isWebhook := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/hooks/") }
	return otelhttp.NewHandler(recordRoute(next), "",
		otelhttp.WithPublicEndpointFn(isWebhook),
		otelhttp.WithFilter(func(r *http.Request) bool {
			switch r.URL.Path {
			case "/healthz", "/readyz", "/metrics":
				return false
			}
			return true
		}))
}

// recordRoute sets the route in the span of a request. It does not record the path, which can
// contain any text.
func recordRoute(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		_, route, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			route = r.Pattern
		}
		span := trace.SpanFromContext(r.Context())
		span.SetAttributes(attribute.String("url.path", route))
		if route != "" && route != "/" {
			span.SetAttributes(attribute.String("http.route", route))
		}
		if id := r.PathValue("instance_id"); uuid.Validate(id) == nil {
			span.SetAttributes(attribute.String(gateway.TraceInstance, id))
		}
	})
}
