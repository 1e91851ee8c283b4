package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A file holds frames, one behind the other. A frame is a mark, a checksum of all that
// follows, the length of its body, when it was kept by the machine's clock and how long
// its process had run then, and the body.
type file struct {
	*os.File
	path  string
	end   atomic.Int64 // of the last frame
	done  int64        // what lies before is done
	aside int64        // what cannot be read before is put aside
	left  int64        // of an adopted file, records not done
}

const header = 4 + 4 + 4 + 8 + 8

var (
	mark  = []byte("HGs1")
	table = crc32.MakeTable(crc32.Castagnoli)
)

func frame(body []byte, at time.Time, ran time.Duration) []byte {
	f := make([]byte, 8, header+len(body))
	copy(f, mark)
	f = binary.BigEndian.AppendUint32(f, uint32(len(body)))
	f = binary.BigEndian.AppendUint64(f, uint64(at.UnixNano()))
	f = binary.BigEndian.AppendUint64(f, uint64(ran))
	f = append(f, body...)
	binary.BigEndian.PutUint32(f[4:8], crc32.Checksum(f[8:], table))
	return f
}

// at reads the frame that begins there; whole is false when none does. Its Age is how
// long its process had run.
func (f *file) at(from, end int64) (r Record, whole bool, err error) {
	var h [header]byte
	if from+header > end {
		return r, false, nil
	}
	if _, err := f.ReadAt(h[:], from); err != nil {
		return r, false, unlessShort(err)
	}
	length := int64(binary.BigEndian.Uint32(h[8:12]))
	if !bytes.Equal(h[:4], mark) || length > maxBody || from+header+length > end {
		return r, false, nil
	}
	body := make([]byte, length)
	if _, err := f.ReadAt(body, from+header); err != nil {
		return r, false, unlessShort(err)
	}
	if crc32.Update(crc32.Checksum(h[8:], table), table, body) != binary.BigEndian.Uint32(h[4:8]) {
		return r, false, nil
	}
	return Record{
		Body: body, from: from, to: from + header + length,
		At: time.Unix(0, int64(binary.BigEndian.Uint64(h[12:20]))), Age: time.Duration(binary.BigEndian.Uint64(h[20:28])),
	}, true, nil
}

// unlessShort makes no error of a file that ends early.
func unlessShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// next gives the first whole frame that begins at from or after it.
func (f *file) next(from, end int64) (r Record, found bool, err error) {
	for from < end {
		r, whole, err := f.at(from, end)
		if err != nil || whole {
			return r, whole, err
		}
		if from, err = f.mark(from+1, end); err != nil {
			return Record{}, false, err
		}
	}
	return Record{}, false, nil
}

// mark gives where the next mark is, or end.
func (f *file) mark(from, end int64) (int64, error) {
	b := make([]byte, 64<<10)
	for from < end {
		n, err := f.ReadAt(b[:min(int64(len(b)), end-from)], from)
		if err := unlessShort(err); err != nil {
			return 0, err
		}
		if i := bytes.Index(b[:n], mark); i >= 0 {
			return from + int64(i), nil
		}
		if n < len(b) {
			break
		}
		from += int64(n - len(mark) + 1)
	}
	return end, nil
}

// create makes a file and locks it; nil when another process was quicker.
func create(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return lock(f, path)
}

// takeOver opens a file whose process has ended; nil when it has not.
func takeOver(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return lock(f, path)
}

// lock makes a file ours; nil when it is another's, or was removed by another who was
// done with it.
func lock(f *os.File, path string) (*file, error) {
	held, err := lockFile(f)
	if err != nil || !held {
		_ = f.Close()
		return nil, err
	}
	own, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(own, there) {
		_ = f.Close()
		return nil, nil
	}
	l := &file{File: f, path: path}
	l.end.Store(own.Size())
	return l, nil
}

// remove removes the file while its lock is held.
func (f *file) remove() error {
	err := os.Remove(f.path)
	return errors.Join(err, f.Close())
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
