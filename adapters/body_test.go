package adapters_test

import (
	"bytes"
	"errors"
	"io"
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
		"Nothing":         {bytes.NewReader(nil), 0, 0, nil},
		"NothingChunked":  {bytes.NewReader(nil), -1, 0, nil},
		"Small":           {bytes.NewReader(full[:100]), 100, 100, nil},
		"ByteByByte":      {iotest.OneByteReader(bytes.NewReader(full[:3000])), -1, 3000, nil},
		"EndWithData":     {iotest.DataErrReader(bytes.NewReader(full[:3000])), -1, 3000, nil},
		"Largest":         {bytes.NewReader(full), limit, limit, nil},
		"LargestChunked":  {bytes.NewReader(full), -1, limit, nil},
		"OneMoreChunked":  {bytes.NewReader(append(full, 'x')), -1, 0, adapters.ErrTooLarge},
		"OneMoreTold":     {bytes.NewReader(nil), limit + 1, 0, adapters.ErrTooLarge},
		"ForeverChunked":  {endlessReader{}, -1, 0, adapters.ErrTooLarge},
		"LimitOfAnother":  {iotest.ErrReader(&http.MaxBytesError{Limit: 1}), -1, 0, adapters.ErrTooLarge},
		"CutOff":          {io.MultiReader(bytes.NewReader(full[:10]), iotest.ErrReader(io.ErrUnexpectedEOF)), 20, 0, adapters.ErrMalformed},
		"MoreThanItTold":  {bytes.NewReader(full[:50]), 10, 50, nil}, // net/http never lets it through
		"AnnouncesAndEnd": {bytes.NewReader(nil), limit, 0, nil},
	} {
		r := &http.Request{Body: io.NopCloser(c.body), ContentLength: c.length}
		body, err := adapters.ReadBody(r, limit)
		if !errors.Is(err, c.want) || len(body) != c.read {
			t.Errorf("%s: %d bytes, %v; want %d, %v", name, len(body), err, c.read, c.want)
		}
		if err != nil {
			continue
		}
		if again, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s: read again it has %d bytes, %v", name, len(again), err)
		}
	}
}

// A stranger decides how much is read of a body, up to the limit, and nothing else.
func TestReadBody_Allocations(t *testing.T) {
	const limit = 512 << 10
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
		most   uint64
	}{
		"Endless":             {endlessReader{}, -1, 1 << 20},
		"AnnouncedNeverThere": {bytes.NewReader(nil), limit, 20 << 10},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = adapters.ReadBody(&http.Request{Body: io.NopCloser(c.body), ContentLength: c.length}, limit)
		runtime.ReadMemStats(&after)
		got := after.TotalAlloc - before.TotalAlloc
		if got > c.most {
			t.Errorf("%s: %d bytes allocated; want at most %d", name, got, c.most)
		}
	}
}

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { return len(p), nil }
