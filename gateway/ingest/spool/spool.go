// Package spool keeps, in a folder of this machine, what the database cannot take,
// until it can. What it was told to keep outlives the process and the machine's power.
// It does not know what it keeps.
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

// ErrFull says that the spool takes nothing more until some of it is done.
var ErrFull = errors.New("spool: full")

const (
	// DefaultLimit is how many bytes one process keeps at most.
	DefaultLimit = 256 << 20

	maxBody       = 1 << 20
	maxPending    = 4096 // records that wait for the disk at once
	fileExt       = ".spool"
	quarantineExt = ".bad"
)

// A Spool is the file of this process in a folder, and the files of processes that
// ended before theirs were done. Each file has one owner, by a lock that ends with the
// process. Keep, Holding, Empty and Stat may be called at any time by anybody; one goroutine
// adopts, reads and settles.
type Spool struct {
	dir    string
	limit  int64
	log    *slog.Logger
	opened time.Time

	pending          atomic.Int64 // records on their way to the disk
	ownRecords       atomic.Int64 // records of this process's file that are not done
	takenOverRecords atomic.Int64 // records of adopted files that are not done

	mu       sync.Mutex
	batch    *batch // those who wait for the next write
	flushing bool
	writing  sync.WaitGroup

	ownMu     sync.Mutex // held while own is written or emptied
	own       *file
	takenOver []*file // oldest first
}

// A batch is what one write makes durable.
type batch struct {
	frames  []byte
	records int64
	done    chan struct{}
	err     error
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Open makes a file in dir for this process, and dir when it is missing, for their
// owner alone. It fails when nothing can be kept there. At most limit bytes are kept at
// a time.
func Open(dir string, limit int64, log *slog.Logger) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, limit: limit, log: log, opened: time.Now(), batch: newBatch()}
	// Until it is locked, another process may take the new file for one left behind.
	for range 10 {
		f, err := createFile(filepath.Join(dir, uuid.Must(uuid.NewV7()).String()+fileExt))
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		s.own = f
		if err := s.verifyWritable(); err != nil {
			_ = f.remove()
			return nil, err
		}
		return s, nil
	}
	return nil, errors.New("another process takes every new file")
}

// verifyWritable finds out now what would otherwise be found out in an outage.
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

// Append returns nil only when body is on the disk. Callers that come together share a
// write. After an error it may be there all the same.
func (s *Spool) Append(ctx context.Context, body []byte) error {
	if len(body) > maxBody {
		return fmt.Errorf("a record of %d bytes: %w", len(body), ErrFull)
	}
	g, err := s.enqueue(encodeFrame(body, time.Now(), time.Since(s.opened)))
	if err != nil {
		return err
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

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

// flush writes one group after the other until nobody waits.
func (s *Spool) flush() {
	for {
		s.mu.Lock()
		g := s.batch
		if g.records == 0 {
			s.flushing = false
			s.mu.Unlock()
			return
		}
		s.batch = newBatch()
		s.mu.Unlock()
		g.err = s.write(g)
		s.pending.Add(-g.records)
		close(g.done)
	}
}

// write adds a group to this process's file. What was written in part, or not surely,
// is no part of the file: the next write takes its place.
func (s *Spool) write(g *batch) error {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	end := s.own.end.Load()
	if end+int64(len(g.frames)) > s.limit {
		return ErrFull
	}
	_, err := s.own.WriteAt(g.frames, end)
	if err == nil {
		err = s.own.Sync()
	}
	if err != nil {
		_ = s.own.Truncate(end)
		return fmt.Errorf("write to the spool: %w", err)
	}
	s.ownRecords.Add(g.records)
	s.own.end.Store(end + int64(len(g.frames)))
	return nil
}

// HasRecords reports whether anything is kept, or about to be, that is not done.
func (s *Spool) HasRecords() bool {
	return s.pending.Load() > 0 || s.ownRecords.Load() > 0 || s.takenOverRecords.Load() > 0
}

// IsEmpty reports whether nothing is kept in the folder, also by processes that ended or
// run beside this one, whose files it may not have adopted yet.
func (s *Spool) IsEmpty() (bool, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"+fileExt))
	return err == nil && !s.HasRecords() && !slices.ContainsFunc(paths, func(path string) bool { return path != s.own.path }), err
}

// Stat tells how many records are kept and not done, and how large the file of this
// process is.
func (s *Spool) Stat() (records, bytes int64) {
	return s.ownRecords.Load() + s.takenOverRecords.Load(), s.own.end.Load()
}

// Close ends the spool. Files with records that are not done stay, for whoever adopts
// them.
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
