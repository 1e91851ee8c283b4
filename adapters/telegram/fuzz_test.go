package telegram_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/telegram"
)

// maxReadTime is the maximum time for reading one request.
const maxReadTime = 30 * time.Second

// FuzzReceive checks that every authenticated request yields exactly one storable message, and the
// same one each time.
func FuzzReceive(f *testing.F) {
	files, err := filepath.Glob("testdata/main/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no recorded updates", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	a, ep := new(telegram.Adapter), endpoint()
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 || len(body) > 512<<10 {
			return
		}
		begun := time.Now()
		in, err := a.Receive(requestWithSecrets(secret)(ep, "", body), ep, "")
		if took := time.Since(begun); took > maxReadTime {
			t.Errorf("reading %d bytes took %v", len(body), took)
		}
		if err != nil || len(in.Messages) != 1 || len(in.Receipts) != 0 {
			t.Fatalf("%d messages, %d receipts, %v", len(in.Messages), len(in.Receipts), err)
		}
		adaptertest.CheckInbound(t, in)
		again, err := a.Receive(requestWithSecrets(secret)(ep, "", body), ep, "")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in.Messages, again.Messages) {
			t.Errorf("the second call returned another message:\n%s", cmp.Diff(in.Messages, again.Messages))
		}
	})
}

// FuzzSecret checks that only the stored secret is accepted.
func FuzzSecret(f *testing.F) {
	f.Add(secret, secret)
	f.Add("", "")
	f.Add("hook-secret_", secret)
	f.Add(secret+"\x00", secret)
	f.Add("ｈook-secret_1", secret)
	f.Add(secret+", "+secret, secret)
	f.Fuzz(func(t *testing.T, given, kept string) {
		ep := endpoint()
		ep.Credentials = adapters.Credentials{adapters.WebhookSecret: kept}
		r := requestWithSecrets()(ep, "", []byte(`{"update_id":1}`))
		r.Header["X-Telegram-Bot-Api-Secret-Token"] = []string{given}
		_, err := new(telegram.Adapter).Receive(r, ep, "")
		want := adapters.ErrForged
		switch {
		case kept == "":
			want = adapters.ErrNoKey
		case given == kept:
			want = nil
		}
		if !errors.Is(err, want) {
			t.Errorf("%q for %q: %v; want %v", given, kept, err, want)
		}
		r.Header = http.Header{}
		if _, err := new(telegram.Adapter).Receive(r, ep, ""); err == nil {
			t.Error("a request without a secret is accepted")
		}
	})
}
