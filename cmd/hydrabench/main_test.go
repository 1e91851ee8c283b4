package main

import (
	"io"
	"slices"
	"testing"
)

func TestParseOptions(t *testing.T) {
	args := []string{"--engine", "sqlite", "--senders", "5, 10", "--channels", "sms", "--duration", "1s", "--json"}
	o, err := parseOptions(args, io.Discard)
	if err != nil || !slices.Equal(o.senders, []int{5, 10}) || !slices.Equal(o.channels, []string{"sms"}) ||
		!slices.Equal(o.engines, []string{engineSQLite}) || !o.asJSON {
		t.Errorf("parseOptions(%q) = %+v, %v", args, o, err)
	}
	for _, args := range [][]string{
		{"--engine", "oracle"},
		{"--engine", "postgres", "--postgres", ""},
		{"--engine", "sqlite", "--senders", "0"},
		{"--engine", "sqlite", "--senders", "10001"},
		{"--engine", "sqlite", "--channels", "pigeon"},
		{"--engine", "sqlite", "--duration", "0s"},
		{"--engine", "sqlite", "--connections", "0"},
		{"--engine", "sqlite", "more"},
	} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("parseOptions(%q) = nil, want an error", args)
		}
	}
}
