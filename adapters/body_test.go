package adapters_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"runtime"
	"testing"
	"testing/iotest"

	"hydragate/adapters"
)

func TestReadBody(t *testing.T) {
	const limit = 64 << 10
	full := bytes.Repeat([]byte("x"), limit)
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
		read   int
		want   error
	}{
		"empty":                         {bytes.NewReader(nil), 0, 0, nil},
		"empty, chunked":                {bytes.NewReader(nil), -1, 0, nil},
		"small":                         {bytes.NewReader(full[:100]), 100, 100, nil},
		"byte by byte":                  {iotest.OneByteReader(bytes.NewReader(full[:3000])), -1, 3000, nil},
		"EOF with the last bytes":       {iotest.DataErrReader(bytes.NewReader(full[:3000])), -1, 3000, nil},
		"limit":                         {bytes.NewReader(full), limit, limit, nil},
		"limit, chunked":                {bytes.NewReader(full), -1, limit, nil},
		"over the limit, chunked":       {bytes.NewReader(append(full, 'x')), -1, 0, adapters.ErrTooLarge},
		"Content-Length over the limit": {bytes.NewReader(nil), limit + 1, 0, adapters.ErrTooLarge},
		"endless, chunked":              {endlessReader{}, -1, 0, adapters.ErrTooLarge},
		"MaxBytesReader":                {iotest.ErrReader(&http.MaxBytesError{Limit: 1}), -1, 0, adapters.ErrTooLarge},
		"incomplete": {
			io.MultiReader(bytes.NewReader(full[:10]), iotest.ErrReader(io.ErrUnexpectedEOF)), 20, 0, adapters.ErrMalformed,
		},
		"longer than Content-Length":  {bytes.NewReader(full[:50]), 10, 50, nil}, // net/http prevents it
		"shorter than Content-Length": {bytes.NewReader(nil), limit, 0, nil},
	} {
		r := &http.Request{Body: io.NopCloser(c.body), ContentLength: c.length}
		body, err := adapters.ReadBody(r, limit)
		if !errors.Is(err, c.want) || len(body) != c.read {
			t.Errorf("%s: ReadBody() = %d bytes, %v, want %d bytes, %v", name, len(body), err, c.read, c.want)
		}
		if err != nil {
			continue
		}
		if again, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s: second read = %d bytes, %v, want the same %d bytes", name, len(again), err, len(body))
		}
	}
}

// TestReadBody_Allocations checks that an unauthenticated caller cannot make ReadBody allocate much
// more than the limit, nor anything that was only announced. What the runtime allocates at the same
// time is counted too, so the least of several measurements is compared.
func TestReadBody_Allocations(t *testing.T) {
	const limit = 512 << 10
	for name, c := range map[string]struct {
		body   io.Reader // can be read again
		length int64
		most   uint64
	}{
		"endless":                 {endlessReader{}, -1, 2 * limit},
		"announced, but not sent": {bytes.NewReader(nil), limit, 20 << 10},
	} {
		least := uint64(math.MaxUint64)
		for range 20 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = adapters.ReadBody(&http.Request{Body: io.NopCloser(c.body), ContentLength: c.length}, limit)
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		if least > c.most {
			t.Errorf("%s: ReadBody() allocated %d bytes, want at most %d", name, least, c.most)
		}
	}
}

// An endlessReader never returns an error.
type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { return len(p), nil }
