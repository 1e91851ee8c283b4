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

// A file is a sequence of frames. A frame consists of a magic number, a checksum of all that
// follows, the length of the body, the wall-clock time, the uptime of its process, and the body.
type file struct {
	*os.File
	path          string
	end           atomic.Int64 // end of the last frame
	readOffset    int64        // records before it are acknowledged
	quarantinedTo int64        // unreadable bytes before it are quarantined
	remaining     int64        // unacknowledged records, of a file taken over
}

const headerSize = 4 + 4 + 4 + 8 + 8

var (
	magic    = []byte("HGs1")
	crcTable = crc32.MakeTable(crc32.Castagnoli)
)

func encodeFrame(body []byte, at time.Time, uptime time.Duration) []byte {
	f := make([]byte, 8, headerSize+len(body))
	copy(f, magic)
	f = binary.BigEndian.AppendUint32(f, uint32(len(body))) //nolint:gosec // at most maxBody
	f = binary.BigEndian.AppendUint64(f, uint64(at.UnixNano()))
	f = binary.BigEndian.AppendUint64(f, uint64(uptime)) //nolint:gosec // never negative
	f = append(f, body...)
	binary.BigEndian.PutUint32(f[4:8], crc32.Checksum(f[8:], crcTable))
	return f
}

// readFrame reads the frame at from. whole is false if no complete frame begins there. The
// uptime of the record is that of the process that wrote it.
func (f *file) readFrame(from, end int64) (r Record, whole bool, err error) {
	var h [headerSize]byte
	if from+headerSize > end {
		return r, false, nil
	}
	if _, err := f.ReadAt(h[:], from); err != nil {
		return r, false, ignoreEOF(err)
	}
	length := int64(binary.BigEndian.Uint32(h[8:12]))
	if !bytes.Equal(h[:4], magic) || length > maxBody || from+headerSize+length > end {
		return r, false, nil
	}
	body := make([]byte, length)
	if _, err := f.ReadAt(body, from+headerSize); err != nil {
		return r, false, ignoreEOF(err)
	}
	if crc32.Update(crc32.Checksum(h[8:], crcTable), crcTable, body) != binary.BigEndian.Uint32(h[4:8]) {
		return r, false, nil
	}
	return Record{
		Body: body, from: from, to: from + headerSize + length,
		At:     time.Unix(0, int64(binary.BigEndian.Uint64(h[12:20]))), //nolint:gosec // as encoded
		uptime: time.Duration(binary.BigEndian.Uint64(h[20:28])),       //nolint:gosec // as encoded
	}, true, nil
}

// ignoreEOF returns nil for the errors of a file that ends early.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// nextFrame returns the first complete frame that begins at or after from.
func (f *file) nextFrame(from, end int64) (r Record, found bool, err error) {
	for from < end {
		r, whole, err := f.readFrame(from, end)
		if err != nil || whole {
			return r, whole, err
		}
		if from, err = f.findMagic(from+1, end); err != nil {
			return Record{}, false, err
		}
	}
	return Record{}, false, nil
}

// findMagic returns the offset of the next magic number, or end.
func (f *file) findMagic(from, end int64) (int64, error) {
	b := make([]byte, 64<<10)
	for from < end {
		n, err := f.ReadAt(b[:min(int64(len(b)), end-from)], from)
		if err := ignoreEOF(err); err != nil {
			return 0, err
		}
		if i := bytes.Index(b[:n], magic); i >= 0 {
			return from + int64(i), nil
		}
		if n < len(b) {
			break
		}
		from += int64(n - len(magic) + 1)
	}
	return end, nil
}

// errTaken is returned if a file is held or was removed by another process.
var errTaken = errors.New("the file is held or was removed by another process")

// createFile creates and locks a file. It returns errTaken if another process took it over first.
func createFile(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return lockOwned(f, path)
}

// openAbandoned opens and locks a file whose process has ended. It returns errTaken if the process is
// running, or if another process has replayed the file.
func openAbandoned(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	return lockOwned(f, path)
}

// lockOwned locks a file. It returns errTaken if another process holds the lock or has removed the
// file.
func lockOwned(f *os.File, path string) (*file, error) {
	held, err := lockFile(f)
	if err == nil && !held {
		err = errTaken
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	own, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if current, err := os.Stat(path); err != nil || !os.SameFile(own, current) {
		_ = f.Close()
		return nil, errTaken
	}
	l := &file{File: f, path: path}
	l.end.Store(own.Size())
	return l, nil
}

// remove removes the file while it is locked, and closes it.
func (f *file) remove() error {
	err := os.Remove(f.path)
	return errors.Join(err, f.Close())
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
