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

// traceFlushTimeout bounds the sending of what is left at the end of the process.
const traceFlushTimeout = 2 * time.Second

// startTracing sends spans to the collector at endpoint, by OTLP over HTTP; other
// variables of the OpenTelemetry specification (OTEL_EXPORTER_OTLP_HEADERS,
// OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, …) hold too. Without an endpoint there are
// no spans. A collector that does not answer holds nothing up. stop sends what is
// left, and gives up after lastTraces.
func startTracing(ctx context.Context, endpoint string, log *slog.Logger) (stop func(), err error) {
	if endpoint == "" {
		return func() {}, nil
	}
	to, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, InvalidSetting("OTEL_EXPORTER_OTLP_ENDPOINT", "cannot be used: "+err.Error())
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "hydragate"), attribute.String("service.version", Version())),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // the environment has the last word
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, InvalidSetting("OTEL_RESOURCE_ATTRIBUTES", "cannot be used: "+err.Error())
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(to), sdktrace.WithResource(about))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces not sent", "err", err) }))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(provider)
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceFlushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("last traces not sent", "err", err)
		}
		otel.SetTracerProvider(noop.NewTracerProvider())
	}, nil
}

// traceRequests gives every request a span, named by its route. Who calls the API may
// continue a trace; providers, who are anybody on the internet, may not.
func traceRequests(next http.Handler) http.Handler {
	hook := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/hooks/") }
	return otelhttp.NewHandler(recordRoute(next), "",
		otelhttp.WithPublicEndpointFn(hook),
		otelhttp.WithFilter(func(r *http.Request) bool {
			switch r.URL.Path {
			case "/healthz", "/readyz", "/metrics":
				return false
			}
			return true
		}))
}

// recordRoute tells the span of a request which route took it. The path itself is anything
// that somebody typed, and is not kept.
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
