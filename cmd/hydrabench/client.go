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

// A client is a keep-alive connection that sends complete requests and reads as little of the
// responses as possible, because the load shares the processors with the gateway. It reconnects when
// necessary. It must not be used concurrently.
type client struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

const responseTimeout = 10 * time.Second // more than the gateway allows for a webhook

var errMalformedResponse = errors.New("unsupported HTTP response")

// do sends a request and returns the status of the response. After an error, the request may have
// been processed or not.
func (c *client) do(request []byte) (status int, err error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return 0, err
		}
	}
	status, reusable, err := c.roundTrip(request)
	if err != nil || !reusable {
		c.close()
	}
	return status, err
}

func (c *client) dial() error {
	conn, err := net.DialTimeout("tcp", c.addr, responseTimeout) //nolint:noctx // has a timeout
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

// roundTrip sends a request on the connection. reusable reports whether the connection can be used
// again.
func (c *client) roundTrip(request []byte) (status int, reusable bool, err error) {
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
	length, reusable, err := c.readHeader()
	if err != nil {
		return 0, false, err
	}
	if _, err := c.r.Discard(length); err != nil {
		return 0, false, fmt.Errorf("read the body of the response: %w", err)
	}
	return status, reusable, nil
}

// readHeader reads the header and returns the length of the body. Webhooks always send a length, so
// a response without one is an error.
func (c *client) readHeader() (length int, reusable bool, err error) {
	length, reusable = -1, true
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
			reusable = !bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return 0, false, fmt.Errorf("%w: %w", errMalformedResponse, io.ErrUnexpectedEOF)
	}
	return length, reusable, nil
}
