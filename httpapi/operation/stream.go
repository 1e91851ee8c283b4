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

// A StreamResponse is a successful response of any length that is written in pieces.
type StreamResponse struct {
	ContentType string
	FileName    string // name of the download; optional
	// Write writes the body. If it returns an error, the connection is aborted.
	Write func(ctx context.Context, w io.Writer) error
}

// streamWriteTimeout is the maximum time for writing one piece of a response.
const streamWriteTimeout = 30 * time.Second

// HandleStream is Handle for operations that stream their response. Shown is the type of the JSON
// response, and also lists other media types of the response.
func HandleStream[I, Shown any](
	f func(context.Context, *I, http.Header) (*StreamResponse, error), also ...string,
) Handler {
	return Handler{reflect.TypeFor[I](), func(rs *Responder, api huma.API, op huma.Operation) {
		op.Responses[strconv.Itoa(op.DefaultStatus)] = describeStream[Shown](api, op, also)
		huma.Register(api, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				rc := hc.(*RequestContext) //nolint:forcetypeassert // GET requests are not recorded
				r, w := humago.Unwrap(rc.BaseContext)
				stream, err := f(ctx, in, r.Header)
				if err != nil {
					rs.ProblemFor(ctx, err).Write(w)
					return
				}
				rs.writeStream(ctx, w, stream)
			}}, nil
		})
	}}
}

func describeStream[Shown any](api huma.API, op huma.Operation, also []string) *huma.Response {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Shown](), true, op.OperationID+"Response")
	r := &huma.Response{
		Description: http.StatusText(op.DefaultStatus),
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
	for _, media := range also {
		r.Content[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return r
}

// writeStream writes a response. If the client is too slow or Write fails, it aborts the
// connection, so that the client does not mistake a part for the whole response.
func (rs *Responder) writeStream(ctx context.Context, w http.ResponseWriter, s *StreamResponse) {
	w.Header().Set("Content-Type", s.ContentType)
	if s.FileName != "" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+s.FileName+`"`)
	}
	out := bufio.NewWriterSize(deadlineWriter{w, http.NewResponseController(w)}, 32<<10)
	err := s.Write(ctx, out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		rs.Log.WarnContext(ctx, "response aborted", "request_id", RequestInfoOf(ctx).ID, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// A deadlineWriter sets a new write deadline before each write.
type deadlineWriter struct {
	io.Writer
	controller *http.ResponseController
}

// Write implements io.Writer.
func (w deadlineWriter) Write(b []byte) (int, error) {
	_ = w.controller.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // not supported by every ResponseWriter
	return w.Writer.Write(b)
}
