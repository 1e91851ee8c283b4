package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// A client is one keep-alive connection that writes requests made elsewhere and reads
// of the answers no more than it must: the load shares its processors with what it
// measures. It dials when it has to. It is for one goroutine.
type client struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

const responseTimeout = 10 * time.Second // above the gateway's own limit for a hook

var errMalformedResponse = errors.New("not an answer this client reads")

// do sends one request, whole, and gives the status of the answer. After an error it
// is not known whether the request was taken.
func (c *client) do(request []byte) (status int, err error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return 0, err
		}
	}
	status, again, err := c.roundTrip(request)
	if err != nil || !again {
		c.close()
	}
	return status, err
}

func (c *client) dial() error {
	conn, err := net.DialTimeout("tcp", c.addr, responseTimeout)
	if err != nil {
		return err
	}
	c.conn, c.r = conn, bufio.NewReaderSize(conn, 4<<10)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// roundTrip reports with again whether the connection may be used once more.
func (c *client) roundTrip(request []byte) (status int, again bool, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(responseTimeout)); err != nil {
		return 0, false, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, false, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, false, errMalformedResponse
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, errMalformedResponse
	}
	length, again, err := c.readHeader()
	if err != nil {
		return 0, false, err
	}
	if _, err := c.r.Discard(length); err != nil {
		return 0, false, fmt.Errorf("reading the answer's body: %w", err)
	}
	return status, again, nil
}

// readHeader reads up to the body and gives its length. An answer whose length is not
// said is none that a hook gives.
func (c *client) readHeader() (length int, again bool, err error) {
	length, again = -1, true
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, false, errMalformedResponse
			}
		case bytes.EqualFold(name, []byte("Connection")):
			again = !bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return 0, false, fmt.Errorf("%w: %w", errMalformedResponse, io.ErrUnexpectedEOF)
	}
	return length, again, nil
}
