package main

import (
	"io"
	"slices"
	"testing"
)

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"--engine", "sqlite", "--senders", "5, 10", "--channels", "sms", "--duration", "1s", "--json"}, io.Discard)
	if err != nil || !slices.Equal(o.senders, []int{5, 10}) || !slices.Equal(o.channels, []string{"sms"}) || !slices.Equal(o.engines, []string{engineSQLite}) || !o.asJSON {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{
		{"--engine", "oracle"},
		{"--engine", "postgres", "--postgres", ""},
		{"--engine", "sqlite", "--senders", "0"},
		{"--engine", "sqlite", "--senders", "10001"},
		{"--engine", "sqlite", "--channels", "pigeon"},
		{"--engine", "sqlite", "--duration", "0s"},
		{"--engine", "sqlite", "--connections", "0"},
		{"--engine", "sqlite", "more"},
	} {
		if _, err := parseOptions(bad, io.Discard); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
