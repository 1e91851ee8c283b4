package adapters

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// initialBodySize is the largest buffer allocated before the first byte of a body arrives. A larger
// Content-Length is not trusted.
const initialBodySize = 16 << 10

// ReadBody reads the body of r, for an adapter that authenticates the raw bytes. It allocates less
// than one and a half times limit, whatever an unauthenticated caller sends. On success the body of r is replaced
// and can be read again. It returns ErrTooLarge if the body is longer than limit bytes, and
// ErrMalformed if it cannot be read completely.
func ReadBody(r *http.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, ErrTooLarge
	}
	size := initialBodySize
	if r.ContentLength >= 0 {
		size = min(size, int(r.ContentLength)+1)
	}
	body, err := readUpTo(r.Body, make([]byte, 0, size), limit+1)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), len(body) > limit:
		return nil, ErrTooLarge
	case err != nil:
		return nil, fmt.Errorf("%w: incomplete body", ErrMalformed)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// readUpTo appends to body from r until body has limit bytes or r ends. The buffer grows by a factor
// of eight, which copies and discards less than append does.
func readUpTo(r io.Reader, body []byte, limit int) ([]byte, error) {
	for len(body) < limit {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(8*cap(body), limit)), body...)
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
