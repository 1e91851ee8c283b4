//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"

	"hydragate/cmd/hydragate/app"
)

func (h *Harness) inProcess() bool { return h.options.InProcess || h.options.APIOnly }

// startInProcess starts a gateway in this process. Settings given as environment variables take
// precedence.
func (h *Harness) startInProcess(settings []string) (*Process, error) {
	s := h.Settings
	if err := setFromEnv(&s, slices.Concat(h.options.Env, settings)); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	log := h.options.Log
	if log == nil {
		log = s.Logger(&h.Log)
	}
	p := &Process{}
	modify := func(g *app.Gateway) error {
		p.Gateway = g
		if h.options.Modify != nil {
			if err := h.options.Modify(g); err != nil {
				return err
			}
		}
		return h.Fault.inject(g, &s)
	}
	serve := p.serve
	if h.options.APIOnly {
		serve = p.serveAPI
	}
	err := serve(&s, log, modify)
	return p, err
}

// serve runs a gateway. It returns when the gateway accepts connections.
func (p *Process) serve(s *app.Settings, log *slog.Logger, modify func(*app.Gateway) error) error {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	p.Exited = make(chan struct{})
	ready := make(chan string, 1)
	go func() {
		defer close(p.Exited)
		p.Err = app.Serve(ctx, s, io.Discard, log, app.Options{
			Modify: modify, Ready: func(url, _ string) { ready <- url },
		})
	}()
	select {
	case url := <-ready:
		p.Addr = strings.TrimPrefix(url, "http://")
		return nil
	case <-p.Exited:
		return errors.Join(errors.New("start gateway"), p.Err)
	}
}

// serveAPI serves the requests of a gateway that processes nothing.
func (p *Process) serveAPI(s *app.Settings, log *slog.Logger, modify func(*app.Gateway) error) error {
	g, err := app.New(context.Background(), s, s.PublicURL, log)
	if err != nil {
		return err
	}
	if _, err = g.EnsureAdminKey(context.Background(), s); err == nil {
		err = modify(g)
	}
	if err != nil {
		g.Close()
		return err
	}
	g.API.Limiter.Rate, g.API.Limiter.Burst, g.API.Failures.PerMinute = 1e9, 1e9, 1e9
	server := httptest.NewServer(g.Handler())
	p.Addr, p.Exited = strings.TrimPrefix(server.URL, "http://"), make(chan struct{})
	p.stop = sync.OnceFunc(func() {
		defer close(p.Exited)
		server.Close()
		g.Close()
	})
	return nil
}

// setFromEnv sets the settings that are given as environment variables.
func setFromEnv(s *app.Settings, env []string) error {
	fields := map[string]reflect.Value{}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		fields[v.Type().Field(i).Tag.Get("env")] = v.Field(i)
	}
	for _, setting := range env {
		name, value, _ := strings.Cut(setting, "=")
		field, known := fields[name]
		if !known {
			return fmt.Errorf("%s is not a setting", name)
		}
		field.SetString(value)
	}
	return nil
}
