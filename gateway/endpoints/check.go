package endpoints

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	faultInterval     = 10 * time.Second // to the check after a new fault, which corrects it if it can
	unsupportedDelay  = time.Hour        // between looks at endpoints that cannot be checked
	statusInterval    = 15 * time.Second // between updates of the metric
	checkBatchSize    = 8                // endpoints that are checked concurrently
	maxNoticeInMemory = 4096
)

// DefaultCheckInterval is the time between checks of an endpoint that works.
const DefaultCheckInterval = 5 * time.Minute

// A CheckStore schedules checks and stores their results.
type CheckStore interface {
	// EndpointsToCheck returns at most limit endpoints whose provider is to be asked now. Each is
	// returned to one caller within four minutes.
	EndpointsToCheck(ctx context.Context, limit int) ([]gateway.EndpointCheck, error)
	// ScheduleChecks makes the checks of all endpoints due now.
	ScheduleChecks(ctx context.Context) error
	// RecordCheck stores the result of a check and returns the status of the endpoint. It returns
	// gateway.ErrNoEndpoint if the endpoint was saved again or removed since.
	RecordCheck(ctx context.Context, s gateway.EndpointState, r gateway.CheckResult) (gateway.EndpointStatus, error)
	// RecordNotice stores a notice about an endpoint and makes a check due, both at most once a minute. A
	// check because of a gateway.ProviderNotice is due now, whenever the last one was.
	RecordNotice(ctx context.Context, ep adapters.Endpoint, n gateway.Notice) error
	// EndpointNotices returns the latest notices about the endpoints of an instance, by the ID of the
	// endpoint.
	EndpointNotices(ctx context.Context, tenant, instance string) (map[string][]gateway.Notice, error)
	// EndpointStatuses returns the instance, channel and status of all endpoints that are not disabled.
	EndpointStatuses(ctx context.Context) ([]gateway.EndpointState, error)
}

// runChecks asks providers about endpoints until ctx ends. Several replicas may call it concurrently:
// an endpoint is checked by one of them at a time. All endpoints are checked when a replica starts,
// because its public URL may be another one.
func (m *Manager) runChecks(ctx context.Context) {
	if err := m.Checks.ScheduleChecks(ctx); err != nil && ctx.Err() == nil {
		m.log().WarnContext(ctx, "schedule checks of endpoints failed", "error", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var measured time.Time
	scan := min(retryInterval, m.checkInterval()/4)
	for {
		select {
		case <-timer.C:
		case <-m.noticed():
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil; {
			more = m.checkDue(ctx) == checkBatchSize
		}
		if now := m.now(); now.Sub(measured) >= min(statusInterval, m.checkInterval()) {
			measured = now
			m.measureStatuses(ctx)
		}
		timer.Reset(scan + rand.N(scan/5))
	}
}

// checkInterval returns the time between checks of an endpoint that works.
func (m *Manager) checkInterval() time.Duration { return cmp.Or(m.CheckInterval, DefaultCheckInterval) }

// noticed returns a channel that receives when Notify has made a check due.
func (m *Manager) noticed() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wake == nil {
		m.wake = make(chan struct{}, 1)
	}
	return m.wake
}

func (m *Manager) measureStatuses(ctx context.Context) {
	states, err := m.Checks.EndpointStatuses(ctx)
	if err == nil {
		m.Metrics.recordStatuses(states)
	}
}

// checkDue checks a batch of endpoints and returns their number.
func (m *Manager) checkDue(ctx context.Context) int {
	checks, err := m.Checks.EndpointsToCheck(ctx, checkBatchSize)
	if err != nil && ctx.Err() == nil {
		m.log().ErrorContext(ctx, "read endpoints to check failed", "error", err)
	}
	var wg sync.WaitGroup
	for _, c := range checks {
		wg.Go(func() {
			c.State = m.withURL(c.State)
			if err := m.checkSafely(ctx, c); err != nil && ctx.Err() == nil {
				m.log().ErrorContext(ctx, "check endpoint failed", append(logAttrs(c.State), "error", err)...)
			}
		})
	}
	wg.Wait()
	return len(checks)
}

// checkSafely checks an endpoint and stores the result. A panic of the adapter is an error.
func (m *Manager) checkSafely(ctx context.Context, c gateway.EndpointCheck) (err error) {
	defer gateway.RecoverInto(&err)
	if c.State.Err != nil { // another process may have the master key
		return c.State.Err
	}
	result := m.checkEndpoint(ctx, c)
	if ctx.Err() != nil {
		return ctx.Err() // the endpoint is due again when the lease ends
	}
	after, cancel := gateway.DetachedContext(ctx)
	defer cancel()
	status, err := m.Checks.RecordCheck(after, c.State, result)
	if errors.Is(err, gateway.ErrNoEndpoint) {
		return nil
	}
	if err != nil {
		return err
	}
	m.logCheck(ctx, c.State, status, result)
	return nil
}

// checkEndpoint asks the provider about an endpoint. A fault that Connect can correct is corrected when
// it is found the second time, so that staff see it, and not more often than the adapter allows.
func (m *Manager) checkEndpoint(ctx context.Context, c gateway.EndpointCheck) gateway.CheckResult {
	reporter, ok := m.Adapters[c.State.Channel].(adapters.StatusReporter)
	if !ok {
		return gateway.CheckResult{Unknown: true, Next: unsupportedDelay}
	}
	report, err := m.status(ctx, reporter, c.State)
	isRepairable := err == nil && report.RepairInterval > 0 && c.SinceRepair >= report.RepairInterval &&
		(report.Fault == "" || c.State.Status == gateway.EndpointError)
	if !isRepairable {
		return m.checkResult(report, err, c)
	}
	m.log().InfoContext(ctx, "repairing endpoint", append(logAttrs(c.State), "fault", report.Fault)...)
	optional, err := m.repair(ctx, reporter, c.State, report)
	if err == nil {
		c.State.Settings = report.Settings
		report, err = m.status(ctx, reporter, withWarning(c.State, optional))
	}
	result := m.checkResult(report, err, c)
	result.Repaired = true
	if optional != nil {
		result.Next = max(result.Next, optional.RetryAfter)
	}
	return result
}

// status asks a provider about an endpoint.
func (m *Manager) status(
	ctx context.Context, a adapters.StatusReporter, state gateway.EndpointState,
) (adapters.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	report, err := a.Status(ctx, state.Endpoint, state.LastEventAt)
	return report, redactSecrets(err, state.Credentials)
}

// repair configures the provider again. optional is what it could not do, without which the endpoint
// works; nil if there is none.
func (m *Manager) repair(
	ctx context.Context, a adapters.StatusReporter, state gateway.EndpointState, report adapters.Report,
) (optional *adapters.SetupError, err error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	state.Settings = report.Settings
	return splitOptional(redactSecrets(a.Connect(ctx, state.Endpoint), state.Credentials))
}

// splitOptional returns err as optional if the endpoint works without what failed.
func splitOptional(err error) (optional *adapters.SetupError, fault error) {
	if se, ok := errors.AsType[*adapters.SetupError](err); ok && se.Optional {
		return se, nil
	}
	return nil, err
}

// withWarning returns an endpoint after Connect succeeded, except for optional, if that is not nil.
func withWarning(state gateway.EndpointState, optional *adapters.SetupError) gateway.EndpointState {
	settings := map[string]string{}
	maps.Copy(settings, state.Settings)
	switch {
	case optional != nil:
		settings[adapters.Warning] = optional.Message
	case adapters.TraitsOf(state.Channel).SecretSetByGateway: // Check of the others has written it
		delete(settings, adapters.Warning)
	}
	state.Settings = settings
	return state
}

// checkResult returns what to store after a check. The check after a new fault follows soon; checks of
// an endpoint with an old fault, and those that the provider does not answer, are delayed increasingly.
// Providers sometimes reject valid credentials for a moment: one rejection that nothing else confirms
// does not change the status.
func (m *Manager) checkResult(report adapters.Report, err error, c gateway.EndpointCheck) gateway.CheckResult {
	fault, message := report.Fault, "The provider does not respond."
	var retryAfter time.Duration
	if se, ok := errors.AsType[*adapters.SetupError](err); ok {
		retryAfter = se.RetryAfter
		if se.Message != "" {
			message = adapters.Sanitize(se.Message, maxErrorMessage)
		}
		switch {
		case se.Retryable():
		case c.State.Status == gateway.EndpointActive && c.Failures == 0 && !c.Reported:
			return gateway.CheckResult{
				Unknown: true, Warnings: []string{"The provider has rejected this channel once and is asked again: " + message},
				Next: m.checkPolicy().Delay(0, retryAfter),
			}
		default:
			fault, err = message, nil
		}
	}
	switch {
	case err != nil:
		return gateway.CheckResult{
			Unknown: true, Warnings: []string{"The provider could not be asked whether this channel works: " + message},
			Next: gateway.SetupBackoff().Delay(c.Failures, retryAfter),
		}
	case fault == "":
		return gateway.CheckResult{
			Settings: report.Settings, Warnings: report.Warnings, Next: m.checkPolicy().Delay(math.MaxInt, 0),
		}
	case c.State.Status == gateway.EndpointActive:
		c.Failures = 0
	}
	return gateway.CheckResult{
		Fault: fault, Settings: report.Settings, Warnings: report.Warnings,
		Next: m.checkPolicy().Delay(c.Failures, retryAfter),
	}
}

// checkPolicy returns the delays between checks: 10 seconds to CheckInterval, with a jitter of a fifth.
func (m *Manager) checkPolicy() adapters.BackoffPolicy {
	longest := m.checkInterval()
	return adapters.BackoffPolicy{Initial: min(faultInterval, longest), Max: longest, Multiplier: 2, Jitter: 0.2}
}

func (m *Manager) logCheck(
	ctx context.Context, before gateway.EndpointState, status gateway.EndpointStatus, r gateway.CheckResult,
) {
	attrs := append(logAttrs(before), "status", string(status), "repaired", r.Repaired,
		"next_ms", r.Next.Milliseconds())
	switch {
	case status == gateway.EndpointError && before.Status != status:
		m.log().ErrorContext(ctx, "endpoint does not work", append(attrs, "fault", r.Fault)...)
	case status == gateway.EndpointActive && before.Status != status:
		m.log().InfoContext(ctx, "endpoint works again", attrs...)
	case r.Unknown:
		m.log().InfoContext(ctx, "endpoint could not be checked", append(attrs, "warnings", r.Warnings)...)
	default:
		m.log().DebugContext(ctx, "endpoint checked", attrs...)
	}
}

// Notify records a notice about an endpoint, and has its provider asked about it. It does so at most
// once a minute for each kind and reason. It logs errors.
func (m *Manager) Notify(ctx context.Context, ep adapters.Endpoint, n gateway.Notice) {
	if m.Checks == nil || ep.ID == "" || !m.allowNotice(ep.ID+" "+string(n.Kind)+" "+n.Reason) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noticeTimeout)
	defer cancel()
	if err := m.Checks.RecordNotice(ctx, ep, n); err != nil {
		m.log().WarnContext(ctx, "record notice failed", "endpoint", ep.ID, "error", err)
	}
	select {
	case m.noticed() <- struct{}{}:
	default: // the checks are about to run
	}
}

const (
	noticeTimeout  = time.Second
	noticeInterval = time.Minute
)

// allowNotice reports whether a notice may be stored: once a minute for each key. If it has too many keys
// it forgets them all.
func (m *Manager) allowNotice(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if at, ok := m.notices[key]; ok && now.Sub(at) < noticeInterval {
		return false
	}
	if m.notices == nil || len(m.notices) >= maxNoticeInMemory {
		m.notices = map[string]time.Time{}
	}
	m.notices[key] = now
	return true
}

// withNotices adds the latest notices about endpoints of an instance to their warnings.
func (m *Manager) withNotices(
	ctx context.Context, tenant, instance string, states []gateway.EndpointState,
) ([]gateway.EndpointState, error) {
	if m.Checks == nil || len(states) == 0 {
		return states, nil
	}
	notices, err := m.Checks.EndpointNotices(ctx, tenant, instance)
	if err != nil {
		return nil, err
	}
	for i := range states {
		states[i].Warnings = slices.Clone(states[i].Warnings)
		for _, n := range notices[states[i].ID] {
			states[i].Warnings = append(states[i].Warnings, describeNotice(n))
		}
	}
	return states, nil
}

// describeNotice returns a notice as a sentence for staff.
func describeNotice(n gateway.Notice) string {
	var b strings.Builder
	switch n.Kind {
	case gateway.WebhookRefused:
		fmt.Fprintf(&b, "A request to the webhook was refused (%s)", n.Reason)
	case gateway.SendRefused:
		fmt.Fprintf(&b, "The provider refused the credentials for a call (%s)", n.Reason)
	default:
		fmt.Fprintf(&b, "The provider reported %s", n.Reason)
	}
	fmt.Fprintf(&b, " at %s", n.At.UTC().Format(time.RFC3339))
	if n.Detail != "" {
		fmt.Fprintf(&b, ": %s", n.Detail)
	}
	return b.String() + "."
}
