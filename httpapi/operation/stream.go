package operation

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// A StreamResponse is an answer that is written piece by piece, however long it is. What can be
// refused was refused before; from the first byte on an error only breaks it off.
type StreamResponse struct {
	ContentType string
	FileName    string // that a browser keeps it under; empty: it shows it
	Write       func(ctx context.Context, w io.Writer) error
}

// streamWriteTimeout is how long a caller may take for one piece of an answer.
const streamWriteTimeout = 30 * time.Second

// HandleStream is do for answers that are poured. Shown is the JSON that is answered, also are
// the media types that it can be asked for in.
func HandleStream[I, Shown any](f func(context.Context, *I, http.Header) (*StreamResponse, error), also ...string) Handler {
	return Handler{reflect.TypeFor[I](), func(rs *Responder, api huma.API, op huma.Operation) {
		op.Responses[strconv.Itoa(op.DefaultStatus)] = describeStream[Shown](api, op, also)
		huma.Register(api, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, w := humago.Unwrap(hc.(*RequestContext).BaseContext) // a GET: nothing stands between
				p, err := f(ctx, in, r.Header)
				if err != nil {
					rs.ProblemFor(ctx, err).Write(w)
					return
				}
				rs.writeStream(ctx, w, p)
			}}, nil
		})
	}}
}

func describeStream[Shown any](api huma.API, op huma.Operation, also []string) *huma.Response {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Shown](), true, op.OperationID+"Response")
	r := &huma.Response{Description: http.StatusText(op.DefaultStatus), Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	for _, media := range also {
		r.Content[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return r
}

// writeStream writes an answer. A caller who is too slow, or an error on the way, cuts the
// connection, so that nobody takes a part for the whole.
func (rs *Responder) writeStream(ctx context.Context, w http.ResponseWriter, p *StreamResponse) {
	w.Header().Set("Content-Type", p.ContentType)
	if p.FileName != "" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+p.FileName+`"`)
	}
	out := bufio.NewWriterSize(deadlineWriter{w, http.NewResponseController(w)}, 32<<10)
	err := p.Write(ctx, out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		rs.Log.WarnContext(ctx, "response aborted", "request_id", RequestInfoOf(ctx).ID, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// deadlineWriter gives each piece its own time.
type deadlineWriter struct {
	io.Writer
	c *http.ResponseController
}

func (p deadlineWriter) Write(b []byte) (int, error) {
	_ = p.c.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // where the connection has deadlines
	return p.Writer.Write(b)
}
