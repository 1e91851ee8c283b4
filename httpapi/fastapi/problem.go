package fastapi

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// A Problem is an error response. The body lists the violations for status 422, and contains one
// sentence for other statuses.
type Problem struct { //nolint:errname // it is a response first, which RFC 9457 calls a problem
	Status     int
	Detail     string
	Violations []Violation
	Header     http.Header
	Format     func(*Problem) any // returns the body; default: the FastAPI format
}

// A Violation is one reason why a request is invalid. It must not contain values of the request.
type Violation struct {
	Type string         `json:"type"`
	Loc  []any          `json:"loc"`
	Msg  string         `json:"msg"`
	Ctx  map[string]any `json:"ctx,omitempty"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// MarshalJSON implements json.Marshaler.
func (p *Problem) MarshalJSON() ([]byte, error) {
	if p.Format != nil {
		return Encode(p.Format(p))
	}
	if p.Violations != nil {
		return Encode(map[string]any{"detail": p.Violations})
	}
	return Encode(map[string]any{"detail": p.Detail})
}

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.Header }

// Write writes the response.
func (p *Problem) Write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.Header)
	body, _ := Encode(p) // strings only: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// StatusProblem returns a problem whose detail is the text of the status.
func StatusProblem(status int) *Problem {
	return &Problem{Status: status, Detail: http.StatusText(status)}
}

// NewProblem returns a problem with a detail.
func NewProblem(status int, detail string) *Problem { return &Problem{Status: status, Detail: detail} }

// NotFound returns a problem with status 404 for a resource such as "Customer".
func NotFound(noun string) *Problem { return NewProblem(http.StatusNotFound, noun+" not found") }

// ValidationProblem returns a problem with status 422.
func ValidationProblem(vs ...Violation) *Problem {
	return &Problem{Status: http.StatusUnprocessableEntity, Detail: "invalid request", Violations: vs}
}

// ValueError returns a violation, at loc, of a rule that is not part of the schema. reason is shown
// to the client.
func ValueError(reason string, loc ...any) Violation {
	return Violation{Type: "value_error", Loc: loc, Msg: "Value error, " + reason}
}

// NotAuthenticated returns a problem with status 401.
func NotAuthenticated() *Problem {
	return &Problem{
		Status: http.StatusUnauthorized, Detail: "Not authenticated",
		Header: http.Header{"Www-Authenticate": {"Bearer"}},
	}
}

// MissingField returns the violation of an absent required field.
func MissingField(loc ...any) Violation {
	return Violation{Type: "missing", Loc: loc, Msg: "Field required"}
}

// Message returns the message without the prefix of Pydantic, for surfaces in other formats.
func (v Violation) Message() string { return strings.TrimPrefix(v.Msg, "Value error, ") }

// FieldPath returns the path of the invalid field, such as "scopes.1".
func (v Violation) FieldPath() string {
	var parts []string
	for _, p := range v.Loc[1:] {
		if s, ok := p.(string); ok {
			parts = append(parts, s)
		} else if n, ok := p.(int); ok && v.Type != "json_invalid" {
			parts = append(parts, strconv.Itoa(n))
		}
	}
	return strings.Join(parts, ".")
}

// Summary returns the detail, or the violations in one line. It includes at most five violations.
func (p *Problem) Summary() string {
	if p.Violations == nil {
		return p.Detail
	}
	const maxViolations = 5
	var parts []string
	for _, v := range p.Violations[:min(maxViolations, len(p.Violations))] {
		if field := v.FieldPath(); field != "" {
			parts = append(parts, field+": "+v.Message())
		} else {
			parts = append(parts, v.Message())
		}
	}
	return strings.Join(parts, "; ")
}
