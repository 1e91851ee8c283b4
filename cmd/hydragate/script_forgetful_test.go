package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"hydragate/adapters"
)

// forgetful is the gateway without a spool, and without a look into Twilio's log.
func forgetful() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := &settings{
		Listen: os.Getenv("HYDRAGATE_LISTEN"), DatabaseURL: os.Getenv("HYDRAGATE_DATABASE_URL"), RedisURL: os.Getenv("HYDRAGATE_REDIS_URL"), DataDir: os.Getenv("HYDRAGATE_DATA_DIR"),
		MasterKeys: os.Getenv("HYDRAGATE_MASTER_KEYS"), AdminKey: os.Getenv("HYDRAGATE_ADMIN_KEY"), TwilioAPIURL: os.Getenv("HYDRAGATE_TWILIO_API_URL"),
		AgentAllowPrivate: "true", LogLevel: "info", PublicURL: os.Getenv("HYDRAGATE_PUBLIC_URL"),
	}
	if err := forget(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func forget(ctx context.Context, s *settings) error {
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return err
	}
	p, err := build(ctx, s, s.PublicURL, s.logger(os.Stderr))
	if err != nil {
		return err
	}
	if _, err := p.ensureAdmin(ctx, s); err != nil {
		return err
	}
	p.inbox.Spooler, p.hooks.Endpoints = nil, p.channels
	p.backfill.Adapters = map[adapters.Channel]adapters.Adapter{adapters.Telegram: p.channels.Adapters[adapters.Telegram]}
	_, err = p.run(ctx, l, func() { announce(os.Stdout, "http://"+l.Addr().String(), s.PublicURL, p.store.Engine(), "") })
	return err
}
