package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A Record is a body that was passed to Append.
type Record struct {
	Body     []byte
	At       time.Time // time of Append, by the wall clock
	Appended time.Time // time of Append, by the monotonic clock; zero if appended by another process

	uptime   time.Duration // of the process that appended it
	file     *file
	from, to int64
}

// TakeOver takes over the files of processes that have ended, and returns the number of their
// records. It truncates an incomplete tail.
func (s *Spool) TakeOver() (records int64, err error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"+fileExt))
	if err != nil {
		return 0, err
	}
	slices.Sort(paths) // names begin with the time of creation
	for _, path := range paths {
		isFile := func(f *file) bool { return f.path == path }
		if isFile(s.own) || slices.ContainsFunc(s.takenOver, isFile) {
			continue
		}
		n, aerr := s.takeOverFile(path)
		records, err = records+n, errors.Join(err, aerr)
	}
	return records, err
}

func (s *Spool) takeOverFile(path string) (records int64, err error) {
	f, err := openAbandoned(path)
	if errors.Is(err, errTaken) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if records, err = s.inspect(f); err != nil {
		_ = f.Close()
		return 0, fmt.Errorf("take over spool file: %w", err)
	}
	if records == 0 && f.end.Load() == 0 {
		return 0, f.remove()
	}
	f.remaining = records
	s.takenOverRecords.Add(records)
	s.takenOver = append(s.takenOver, f)
	return records, nil
}

// inspect counts the records of a file and truncates what follows the last one.
func (s *Spool) inspect(f *file) (records int64, err error) {
	end := f.end.Load()
	at := int64(0)
	for {
		r, found, err := f.nextFrame(at, end)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		records++
		at = r.to
	}
	if at < end {
		s.log.Warn("incomplete tail of spool file truncated", "file", filepath.Base(f.path), "bytes", end-at)
		f.end.Store(at)
		return records, f.Truncate(at)
	}
	return records, nil
}

// Next returns up to n unacknowledged records of one file, oldest first. Unreadable bytes between
// records are quarantined.
func (s *Spool) Next(n int) (rs []Record, err error) {
	f := s.own
	if len(s.takenOver) > 0 {
		f = s.takenOver[0]
	}
	end := f.end.Load()
	for at := f.readOffset; len(rs) < n && at < end; {
		r, found, err := f.nextFrame(at, end)
		if err != nil {
			return nil, fmt.Errorf("read spool: %w", err)
		}
		if !found {
			r = Record{from: end, to: end}
		}
		if at < r.from && f.quarantinedTo < r.from {
			if err := s.quarantineRange(f, max(at, f.quarantinedTo), r.from); err != nil {
				return nil, err
			}
			s.log.Error("unreadable spool records quarantined", "file", filepath.Base(f.path)+quarantineExt, "bytes", r.from-at)
			f.quarantinedTo = r.from
		}
		if at = r.to; !found {
			break
		}
		r.file = f
		if f == s.own {
			r.Appended = s.opened.Add(r.uptime)
		}
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		return nil, s.advance(f, end, 0)
	}
	return rs, nil
}

// Ack acknowledges records, in the order in which Next returned them. They are no longer stored.
func (s *Spool) Ack(rs []Record) error {
	if len(rs) == 0 {
		return nil
	}
	last := rs[len(rs)-1]
	return s.advance(last.file, last.to, int64(len(rs)))
}

// advance moves the read offset of a file. A file whose records are all acknowledged is truncated
// or, if it was taken over, removed.
func (s *Spool) advance(f *file, to, records int64) error {
	f.readOffset = to
	if f != s.own {
		if to >= f.end.Load() {
			s.takenOver, records = slices.Delete(s.takenOver, 0, 1), f.remaining
			defer func() { _ = f.remove() }()
		}
		f.remaining -= records
		s.takenOverRecords.Add(-records)
		return nil
	}
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	if to < f.end.Load() {
		s.ownRecords.Add(-records)
		return nil
	}
	f.readOffset, f.quarantinedTo = 0, 0
	f.end.Store(0)
	s.ownRecords.Store(0)
	return f.Truncate(0)
}

// Quarantine copies a record to a file that is not read again, for an operator to inspect.
func (s *Spool) Quarantine(r Record) error { return s.quarantineRange(r.file, r.from, r.to) }

func (s *Spool) quarantineRange(f *file, from, to int64) error {
	b := make([]byte, to-from)
	if _, err := f.ReadAt(b, from); err != nil {
		return fmt.Errorf("quarantine spool records: %w", err)
	}
	out, err := os.OpenFile(f.path+quarantineExt, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("quarantine spool records: %w", err)
	}
	_, err = out.Write(b)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("quarantine spool records: %w", err)
	}
	return nil
}
