package httpapi

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

// A pour is an answer that is written piece by piece, however long it is. What can be
// refused was refused before; from the first byte on an error only breaks it off.
type pour struct {
	contentType string
	fileName    string // that a browser keeps it under; empty: it shows it
	write       func(ctx context.Context, w io.Writer) error
}

// pieceTime is how long a caller may take for one piece of an answer.
const pieceTime = 30 * time.Second

// flow is do for answers that are poured. Shown is the JSON that is answered, also are
// the media types that it can be asked for in.
func flow[I, Shown any](f func(context.Context, *I, http.Header) (*pour, error), also ...string) handler {
	return handler{reflect.TypeFor[I](), func(a *API, surface huma.API, op huma.Operation) {
		op.Responses[strconv.Itoa(op.DefaultStatus)] = poured[Shown](surface, op, also)
		huma.Register(surface, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, w := humago.Unwrap(hc.(*admitted).inner) // a GET: nothing stands between
				p, err := f(ctx, in, r.Header)
				if err != nil {
					a.fail(ctx, err).write(w)
					return
				}
				a.pour(ctx, w, p)
			}}, nil
		})
	}}
}

func poured[Shown any](surface huma.API, op huma.Operation, also []string) *huma.Response {
	schema := surface.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Shown](), true, op.OperationID+"Response")
	r := &huma.Response{Description: http.StatusText(op.DefaultStatus), Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	for _, media := range also {
		r.Content[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return r
}

// pour writes an answer. A caller who is too slow, or an error on the way, cuts the
// connection, so that nobody takes a part for the whole.
func (a *API) pour(ctx context.Context, w http.ResponseWriter, p *pour) {
	w.Header().Set("Content-Type", p.contentType)
	if p.fileName != "" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+p.fileName+`"`)
	}
	out := bufio.NewWriterSize(patient{w, http.NewResponseController(w)}, 32<<10)
	err := p.write(ctx, out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		a.Log.WarnContext(ctx, "answer broken off", "request_id", recordOf(ctx).id, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// patient gives each piece its own time.
type patient struct {
	io.Writer
	c *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.c.SetWriteDeadline(time.Now().Add(pieceTime)) // where the connection has deadlines
	return p.Writer.Write(b)
}
