//go:build unix

package script

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

// request sends a request over a new connection.
func (w *scriptFixture) request(addr, method, path string, header http.Header, body []byte) (harness.Response, error) {
	c := harness.NewClient("http://"+addr, "", harness.EventTimeout)
	defer c.HTTP.CloseIdleConnections()
	return c.Do(w.ctx, method, path, header, string(body))
}

// webhookTimeLimit is the longest time the gateway may take to respond to a webhook. The short form runs
// beside other tests, so it allows more.
var webhookTimeLimit = time.Duration(harness.Scaled(15, 5)) * time.Second

// apiCommand implements the command api, which sends JSON with the key $KEY.
func (w *scriptFixture) apiCommand(ts *testscript.TestScript, args []string) error {
	return w.runRequest(
		ts,
		http.Header{"Authorization": {"Bearer " + ts.Getenv("KEY")}, "Content-Type": {"application/json"}},
		args,
	)
}

// httpCommand implements the command http, which sends only the headers given.
func (w *scriptFixture) httpCommand(ts *testscript.TestScript, args []string) error {
	return w.runRequest(ts, http.Header{}, args)
}

var headerPattern = regexp.MustCompile(`^([A-Za-z-]+): ?(.*)$`)

// runRequest sends a request: METHOD PATH [NAME:VALUE…] [BODY] -> STATUS [REGEXP…]. A path may begin
// with the address of a gateway. A body that begins with @ names a file. The expressions must match
// the header or the body of the response, "^$" the body. With "=>" instead of "->" the request is
// repeated until the response is as expected.
func (w *scriptFixture) runRequest(ts *testscript.TestScript, header http.Header, args []string) error {
	split := slices.IndexFunc(args, func(arg string) bool { return arg == "->" || arg == "=>" })
	if split < 2 || len(args) < split+2 {
		return errors.New("usage: api|http METHOD PATH [NAME:VALUE…] [BODY] ->|=> STATUS [REGEXP…]")
	}
	var body []byte
	for _, arg := range args[2:split] {
		if m := headerPattern.FindStringSubmatch(arg); m != nil {
			header.Add(m[1], m[2])
		} else if file, ok := strings.CutPrefix(arg, "@"); ok {
			body = []byte(ts.ReadFile(file))
		} else {
			body = []byte(arg)
		}
	}
	addr, path, _ := strings.Cut(args[1], "/")
	if addr == "" {
		addr = w.front.Addr()
	}
	call := func() error {
		start := time.Now()
		a, err := w.request(addr, args[0], "/"+path, header, body)
		if err != nil {
			return err
		}
		return w.checkResponse(a, time.Since(start), "/"+path, args[split+1], args[split+2:])
	}
	if args[split] == "->" {
		return call()
	}
	return new(harness.Broadcast).WaitFor(harness.EventTimeout, call)
}

// checkResponse checks the response to a request. It writes the body to the file answer.
func (w *scriptFixture) checkResponse(
	a harness.Response, took time.Duration, path, status string, wants []string,
) error {
	if err := os.WriteFile(filepath.Join(w.dir, "answer"), []byte(a.Body), 0o600); err != nil {
		return err
	}
	if got := fmt.Sprint(a.Status); got != status {
		return fmt.Errorf("status = %s after %s, want %s: %v %s", got, took, status, a.Header, a.Body)
	}
	if strings.HasPrefix(path, "/hooks/") && took > webhookTimeLimit {
		return fmt.Errorf("response to a webhook after %s", took)
	}
	return matchResponse(a, wants)
}

func matchResponse(a harness.Response, wants []string) error {
	var head bytes.Buffer
	_ = a.Header.Write(&head)
	for _, want := range wants {
		re, err := regexp.Compile(`(?s)` + want)
		if err != nil {
			return err
		}
		if !re.MatchString(a.Body) && (want == "^$" || !re.Match(head.Bytes())) {
			return fmt.Errorf("no match for %s in the response %s%s", want, head.Bytes(), a.Body)
		}
	}
	return nil
}
