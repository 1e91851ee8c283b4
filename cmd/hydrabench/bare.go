package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"
)

// bareCommand is the hidden command that serves minimal handlers, which are compared with the
// gateway: they cost what net/http and the protocol cost.
const bareCommand = "bare"

// serveBare serves the minimal handlers until ctx ends.
func serveBare(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet(bareCommand, flag.ContinueOnError)
	token := f.String("token", "", "auth token of the Twilio account")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	origin := "http://" + l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /"+telegramChannel, readUpdate)
	mux.HandleFunc("POST /"+smsChannel, checkSignature(origin+"/"+smsChannel, *token))
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 4 * time.Second, IdleTimeout: time.Minute,
	}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := json.NewEncoder(out).Encode(map[string]string{"listening": origin}); err != nil {
		return err
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// readUpdate decodes the fields of an update that every bot needs, and answers 200.
func readUpdate(w http.ResponseWriter, r *http.Request) {
	var update struct {
		ID      int64 `json:"update_id"`
		Message struct {
			ID   int64 `json:"message_id"`
			From struct {
				ID       int64  `json:"id"`
				Name     string `json:"first_name"`
				Username string `json:"username"`
			} `json:"from"`
			Chat struct {
				ID   int64  `json:"id"`
				Type string `json:"type"`
			} `json:"chat"`
			Date int64  `json:"date"`
			Text string `json:"text"`
		} `json:"message"`
	}
	if err := json.NewDecoder(r.Body).Decode(&update); err != nil || update.ID == 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// checkSignature answers 200 to requests with a valid signature of Twilio: an HMAC of the URL and the
// parameters, sorted by name.
func checkSignature(u, token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		m := hmac.New(sha1.New, []byte(token))
		_, _ = io.WriteString(m, u)
		for _, name := range slices.Sorted(maps.Keys(r.PostForm)) {
			_, _ = io.WriteString(m, name+r.PostForm.Get(name))
		}
		want := base64.StdEncoding.EncodeToString(m.Sum(nil))
		if !hmac.Equal([]byte(want), []byte(r.Header.Get("X-Twilio-Signature"))) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}
