package rediscode

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// stepTimeout is the maximum duration of each step of a call: to get a connection, to connect, to
// write and to read.
const stepTimeout = 500 * time.Millisecond

// ErrInvalidURL is returned if the URL of Redis is malformed. The error does not contain the URL,
// which may hold a password.
var ErrInvalidURL = errors.New("not a Redis URL, such as redis://:password@host:6379/0, rediss://host, " +
	"or redis://one,redis://two for Redis Cluster")

// NewClient returns a client for the Redis server at url, "redis://…" or, with TLS, "rediss://…".
// A comma-separated list of URLs names nodes of one Redis Cluster, with the credentials of the
// first. NewClient does not connect.
//
// The client never repeats a command whose reply was lost, and honors its contexts.
func NewClient(url string) (redis.UniversalClient, error) {
	first, others, many := strings.Cut(url, ",")
	opts, err := parseURL(first)
	if err != nil {
		return nil, err
	}
	applyLimits(opts)
	if !many {
		return redis.NewClient(opts), nil
	}
	addrs := []string{opts.Addr}
	for node := range strings.SplitSeq(others, ",") {
		o, err := parseURL(node)
		if err != nil {
			return nil, err
		}
		if (o.TLSConfig == nil) != (opts.TLSConfig == nil) {
			return nil, fmt.Errorf("%w: either all nodes use TLS or none", ErrInvalidURL)
		}
		addrs = append(addrs, o.Addr)
	}
	if opts.DB != 0 {
		return nil, fmt.Errorf("%w: Redis Cluster has only database 0", ErrInvalidURL)
	}
	return redis.NewClusterClient(clusterOptions(opts, addrs)), nil
}

func parseURL(url string) (*redis.Options, error) {
	opts, err := redis.ParseURL(strings.TrimSpace(url))
	if err != nil || opts.Network != "tcp" {
		return nil, ErrInvalidURL
	}
	return opts, nil
}

// applyLimits sets the options that the guarantees of Store depend on, overriding the URL.
func applyLimits(o *redis.Options) {
	o.MaxRetries = -1
	o.ContextTimeoutEnabled = true
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = stepTimeout, stepTimeout, stepTimeout, stepTimeout
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func clusterOptions(o *redis.Options, addrs []string) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:                    addrs,
		Username:                 o.Username,
		Password:                 o.Password,
		TLSConfig:                o.TLSConfig,
		MaxRetries:               o.MaxRetries,
		ContextTimeoutEnabled:    o.ContextTimeoutEnabled,
		DialerRetries:            o.DialerRetries,
		DialTimeout:              o.DialTimeout,
		ReadTimeout:              o.ReadTimeout,
		WriteTimeout:             o.WriteTimeout,
		PoolTimeout:              o.PoolTimeout,
		PoolSize:                 o.PoolSize,
		MinIdleConns:             o.MinIdleConns,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	}
}
