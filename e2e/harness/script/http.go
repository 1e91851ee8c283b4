package script

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

type httpResponse struct {
	status int
	header http.Header
	body   []byte
}

// request calls a gateway, over a connection of its own.
func (w *scriptFixture) request(addr, method, path string, header http.Header, body []byte) (httpResponse, error) {
	r, err := http.NewRequestWithContext(w.ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return httpResponse{}, err
	}
	r.Header = header
	client := &http.Client{Timeout: harness.EventTimeout, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		return httpResponse{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return httpResponse{res.StatusCode, res.Header, b}, err
}

// webhookTimeLimit is how long a provider may wait for an answer, whatever the gateway is
// waiting for.
const webhookTimeLimit = 5 * time.Second

// apiCommand METHOD PATH [BODY] -> STATUS [REGEXP…] calls the API as JSON, with the key $KEY.
// After "=>" in place of "->" it calls until the answer is this.
func (w *scriptFixture) apiCommand(ts *testscript.TestScript, args []string) error {
	return w.runRequest(ts, http.Header{"Authorization": {"Bearer " + ts.Getenv("KEY")}, "Content-Type": {"application/json"}}, args)
}

// httpCommand METHOD PATH [NAME:VALUE…] [BODY] -> STATUS [REGEXP…] calls with these headers
// and no others. A PATH that begins with an address is of that gateway. A BODY that
// begins with @ is a file. Expressions are looked for in the headers of the answer and
// its body, and "^$" in the body alone.
func (w *scriptFixture) httpCommand(ts *testscript.TestScript, args []string) error {
	return w.runRequest(ts, http.Header{}, args)
}

var headerPattern = regexp.MustCompile(`^([A-Za-z-]+): ?(.*)$`)

func (w *scriptFixture) runRequest(ts *testscript.TestScript, header http.Header, args []string) error {
	split := slices.IndexFunc(args, func(arg string) bool { return arg == "->" || arg == "=>" })
	if split < 2 || len(args) < split+2 {
		return errors.New("usage: METHOD PATH [NAME:VALUE…] [BODY] -> STATUS [REGEXP…]")
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
	call := func() error { return w.checkCall(addr, args[0], "/"+path, header, body, args[split+1], args[split+2:]) }
	if args[split] == "->" {
		return call()
	}
	return new(harness.Broadcast).WaitFor(harness.EventTimeout, call)
}

// checkCall makes one call, whose answer must be this. It leaves the body in a file.
func (w *scriptFixture) checkCall(addr, method, path string, header http.Header, body []byte, status string, wants []string) error {
	begun := time.Now()
	a, err := w.request(addr, method, path, header, body)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	if err := os.WriteFile(filepath.Join(w.dir, "answer"), a.body, 0o600); err != nil {
		return err
	}
	if got := fmt.Sprint(a.status); got != status {
		return fmt.Errorf("the answer is %s after %s: %v %s", got, took, a.header, a.body)
	}
	if strings.HasPrefix(path, "/hooks/") && took > webhookTimeLimit {
		return fmt.Errorf("the hook was answered after %s", took)
	}
	return a.match(wants)
}

func (a httpResponse) match(wants []string) error {
	var head bytes.Buffer
	_ = a.header.Write(&head)
	for _, want := range wants {
		re, err := regexp.Compile(`(?s)` + want)
		if err != nil {
			return err
		}
		if !re.Match(a.body) && (want == "^$" || !re.Match(head.Bytes())) {
			return fmt.Errorf("%s is not in the answer %s%s", want, head.Bytes(), a.body)
		}
	}
	return nil
}
