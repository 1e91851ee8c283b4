package adapters

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// initialBodySize is the room made for a body before any of it is there. Whoever announces
// more must send it first.
const initialBodySize = 16 << 10

// ReadBody reads the body of r, of at most limit bytes, for an adapter that has to see
// it before it knows who sent it: what it allocates for a stranger stays below twice
// limit. The whole body can be read from r again afterwards. ErrTooLarge, ErrMalformed
// for one that was cut off.
func ReadBody(r *http.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, ErrTooLarge
	}
	room := initialBodySize
	if r.ContentLength >= 0 {
		room = min(room, int(r.ContentLength)+1)
	}
	body, err := readUpTo(r.Body, make([]byte, 0, room), limit+1)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), len(body) > limit:
		return nil, ErrTooLarge
	case err != nil:
		return nil, fmt.Errorf("%w: body cut off", ErrMalformed)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// readUpTo fills body up to limit bytes, or until the end. It makes four times the room
// whenever there is none left, so that little is copied and less is thrown away.
func readUpTo(r io.Reader, body []byte, limit int) ([]byte, error) {
	for len(body) < limit {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(4*cap(body), limit)), body...)
		}
		n, err := r.Read(body[len(body):min(cap(body), limit)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return body, err
		}
	}
	return body, nil
}
