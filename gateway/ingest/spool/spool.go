// Package spool stores records in a folder of this machine while the database cannot. Records
// survive a crash of the process and a power failure. The package does not know what they contain.
package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// ErrFull is returned if the spool accepts no more records until some are acknowledged.
var ErrFull = errors.New("spool: full")

const (
	// DefaultLimit is the maximum size of the file of one process in bytes.
	DefaultLimit = 256 << 20

	maxBody       = 1 << 20
	maxPending    = 4096 // records waiting to be written
	fileExt       = ".spool"
	quarantineExt = ".bad"
)

// A Spool consists of the file of this process and of the files of processes that ended before
// their records were acknowledged. A lock that ends with the process gives each file one owner.
// Append, HasRecords, IsEmpty and Stat may be called concurrently; TakeOver, Next, Ack and
// Quarantine must be called from one goroutine.
type Spool struct {
	dir    string
	limit  int64
	log    *slog.Logger
	opened time.Time

	pending          atomic.Int64 // records being written
	ownRecords       atomic.Int64 // unacknowledged records in the file of this process
	takenOverRecords atomic.Int64 // records of files taken over, not acknowledged

	mu       sync.Mutex
	batch    *batch // records of the next write
	flushing bool
	writing  sync.WaitGroup

	ownMu     sync.Mutex // held while own is written or truncated
	own       *file
	takenOver []*file // oldest first
}

// A batch is a group of records that one write makes durable.
type batch struct {
	frames  []byte
	records int64
	done    chan struct{}
	err     error
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Open creates a file for this process in dir, and dir if it does not exist, accessible only to
// the owner. It fails if nothing can be written there. limit is the maximum size of the file in
// bytes.
func Open(dir string, limit int64, log *slog.Logger) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // the owner must be able to open a directory
		return nil, err
	}
	s := &Spool{dir: dir, limit: limit, log: log, opened: time.Now(), batch: newBatch()}
	// Until the new file is locked, another process may take it over.
	for range 10 {
		f, err := createFile(filepath.Join(dir, uuid.Must(uuid.NewV7()).String()+fileExt))
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.own = f
		if err := s.verifyWritable(); err != nil {
			_ = f.remove()
			return nil, err
		}
		return s, nil
	}
	return nil, errors.New("open spool: another process took over every new file")
}

// verifyWritable writes to the spool file, so that an unwritable disk is detected at startup and not
// during an outage.
func (s *Spool) verifyWritable() error {
	if _, err := s.own.WriteAt(encodeFrame([]byte("proof"), s.opened, 0), 0); err != nil {
		return err
	}
	if err := s.own.Sync(); err != nil {
		return err
	}
	if err := s.own.Truncate(0); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// Append writes a record and returns nil only if it is on disk. Concurrent calls share a write.
// After an error the record may have been written nevertheless.
func (s *Spool) Append(ctx context.Context, body []byte) error {
	if len(body) > maxBody {
		return fmt.Errorf("a record of %d bytes: %w", len(body), ErrFull)
	}
	b, err := s.enqueue(encodeFrame(body, time.Now(), time.Since(s.opened)))
	if err != nil {
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enqueue adds a frame to the next write.
func (s *Spool) enqueue(f []byte) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batch.records >= maxPending {
		return nil, ErrFull
	}
	s.pending.Add(1)
	s.batch.records++
	s.batch.frames = append(s.batch.frames, f...)
	if !s.flushing {
		s.flushing = true
		s.writing.Go(s.flush)
	}
	return s.batch, nil
}

// flush writes one batch after the other until none is pending.
func (s *Spool) flush() {
	for {
		s.mu.Lock()
		b := s.batch
		if b.records == 0 {
			s.flushing = false
			s.mu.Unlock()
			return
		}
		s.batch = newBatch()
		s.mu.Unlock()
		b.err = s.write(b)
		s.pending.Add(-b.records)
		close(b.done)
	}
}

// write appends a batch to the file of this process. After a failed write the end of the file does
// not move, so that the next write overwrites the partial batch.
func (s *Spool) write(b *batch) error {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	end := s.own.end.Load()
	if end+int64(len(b.frames)) > s.limit {
		return ErrFull
	}
	_, err := s.own.WriteAt(b.frames, end)
	if err == nil {
		err = s.own.Sync()
	}
	if err != nil {
		_ = s.own.Truncate(end)
		return fmt.Errorf("write spool: %w", err)
	}
	s.ownRecords.Add(b.records)
	s.own.end.Store(end + int64(len(b.frames)))
	return nil
}

// HasRecords reports whether the spool contains records that are not acknowledged, or are being
// written.
func (s *Spool) HasRecords() bool {
	return s.pending.Load() > 0 || s.ownRecords.Load() > 0 || s.takenOverRecords.Load() > 0
}

// IsEmpty reports whether the folder contains no records, including those of other processes whose
// files have not been taken over.
func (s *Spool) IsEmpty() (bool, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"+fileExt))
	return err == nil && !s.HasRecords() &&
		!slices.ContainsFunc(paths, func(path string) bool { return path != s.own.path }), err
}

// Stat returns the number of records that are not acknowledged, and the size of the own file in
// bytes.
func (s *Spool) Stat() (records, bytes int64) {
	return s.ownRecords.Load() + s.takenOverRecords.Load(), s.own.end.Load()
}

// Close closes the spool. Files with records that are not acknowledged remain, and are taken over
// by another process.
func (s *Spool) Close() {
	s.writing.Wait()
	for _, f := range s.takenOver {
		_ = f.Close()
	}
	if s.ownRecords.Load() == 0 {
		_ = s.own.remove()
		return
	}
	_ = s.own.Close()
}
