package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// inserts measures what this Postgres takes at best from callers who each wait for
// their own commit: one row a call, into a table with the columns, checks and indexes
// of messages, which must exist.
func (d *database) inserts(ctx context.Context, duration time.Duration, callers int) (cell, error) {
	cfg, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return cell{}, err
	}
	cfg.MaxConns = int32(callers)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return cell{}, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `create table bare_messages (like messages including all)`); err != nil {
		return cell{}, fmt.Errorf("make the table of bare inserts: %w", err)
	}
	defer func() { _, _ = pool.Exec(context.WithoutCancel(ctx), `drop table bare_messages`) }()

	c, err := subject{database: d}.measure(ctx, duration, func(until time.Time, t *tally) error {
		var wg sync.WaitGroup
		for caller := range callers {
			wg.Go(func() { insertUntil(ctx, pool, until, caller, t) })
		}
		wg.Wait()
		return nil
	})
	c.What, c.Engine = "bare single inserts", onPostgres
	if err == nil {
		err = pool.QueryRow(ctx, `select count(*) from bare_messages`).Scan(&c.Stored)
	}
	return c, err
}

func insertUntil(ctx context.Context, pool *pgxpool.Pool, until time.Time, caller int, t *tally) {
	var samples []sample
	defer func() { t.keep(samples) }()
	const body = `{"kind":"text","provider_id":"1000001","sender":{"id":"700000001","name":"Steve","username":"steve0001","locale":"en"},"place":{"id":"700000001"},"sent_at":"2026-01-01T12:00:00Z"}`
	tenant, instance := uuid.Nil, uuid.NewSHA1(uuid.Nil, []byte("instance"))
	for n := 0; time.Now().Before(until); n++ {
		sent := time.Now()
		person := (n*64 + caller) % maxSenders
		conversation := uuid.NewSHA1(instance, []byte(strconv.Itoa(person)))
		_, err := pool.Exec(ctx, `
			insert into bare_messages (id, tenant_id, conversation_id, instance_id, channel, key, alt_key, kind, sender_id, body, text, sealed)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			uuid.Must(uuid.NewV7()).String(), tenant.String(), conversation.String(), instance.String(), telegramChannel, fmt.Sprintf("%d:%d", caller, n), nil,
			"text", strconv.Itoa(person), body, plainText, nil)
		if err != nil {
			t.fail(err)
			return
		}
		now := time.Now()
		t.acked.Add(1)
		samples = append(samples, sample{at: now, took: now.Sub(sent)})
	}
}
