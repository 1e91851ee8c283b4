package fastapi

import (
	"net/http"
	"strconv"
	"strings"
)

// A Problem is an answer that says no. It is the only thing that knows statuses and
// their shapes: a list of violations for 422, one sentence for everything else.
type Problem struct {
	Status     int
	Detail     string
	Violations []Violation
	Header     http.Header
	Format     func(*Problem) any // of the body; nil: the native one
}

// A Violation is one thing wrong with a request. It never holds what was sent.
type Violation struct {
	Type string         `json:"type"`
	Loc  []any          `json:"loc"`
	Msg  string         `json:"msg"`
	Ctx  map[string]any `json:"ctx,omitempty"`
}

func (p *Problem) Error() string { return p.Detail }

func (p *Problem) GetStatus() int { return p.Status }

func (p *Problem) MarshalJSON() ([]byte, error) {
	if p.Format != nil {
		return Encode(p.Format(p))
	}
	if p.Violations != nil {
		return Encode(map[string]any{"detail": p.Violations})
	}
	return Encode(map[string]any{"detail": p.Detail})
}

// GetHeaders gives the headers that belong to the answer.
func (p *Problem) GetHeaders() http.Header { return p.Header }

func (p *Problem) Write(w http.ResponseWriter) {
	for k, v := range p.Header {
		w.Header()[k] = v
	}
	body, _ := Encode(p) // strings only: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

func StatusProblem(status int) *Problem {
	return &Problem{Status: status, Detail: http.StatusText(status)}
}

func NewProblem(status int, detail string) *Problem { return &Problem{Status: status, Detail: detail} }

func NotFound(noun string) *Problem { return NewProblem(http.StatusNotFound, noun+" not found") }

func ValidationProblem(vs ...Violation) *Problem {
	return &Problem{Status: http.StatusUnprocessableEntity, Detail: "invalid request", Violations: vs}
}

// ValueError says what no schema can: reason is one of ours, in words for the caller.
func ValueError(reason string, loc ...any) Violation {
	return Violation{Type: "value_error", Loc: loc, Msg: "Value error, " + reason}
}

func NotAuthenticated() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Detail: "Not authenticated", Header: http.Header{"Www-Authenticate": {"Bearer"}}}
}

func MissingField(loc ...any) Violation {
	return Violation{Type: "missing", Loc: loc, Msg: "Field required"}
}

// Message is what a violation says, for surfaces with words of their own.
func (v Violation) Message() string { return strings.TrimPrefix(v.Msg, "Value error, ") }

// FieldPath names what a violation is about, as the caller wrote it.
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

// Summary tells a problem in one sentence: of a request that is wrong, all that is
// wrong with it.
func (p *Problem) Summary() string {
	if p.Violations == nil {
		return p.Detail
	}
	const most = 5
	var said []string
	for _, v := range p.Violations[:min(most, len(p.Violations))] {
		if field := v.FieldPath(); field != "" {
			said = append(said, field+": "+v.Message())
		} else {
			said = append(said, v.Message())
		}
	}
	return strings.Join(said, "; ")
}
