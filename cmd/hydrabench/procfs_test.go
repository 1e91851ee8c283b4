package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	s, err := parseStat("42 (post) gres: x) S 7 42 42 0 -1 4194560 100 200 0 0 150 50 30 20 20 0 1 0 100 1000 10 18446744073709551615")
	if err != nil || s.command != "post) gres: x" || s.parent != 7 || s.own != 2*time.Second || s.children != 500*time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1", "42 (x) S a 1 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestProcessTimes(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	own, err := processTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	family, err := processTreeTime(os.Getpid())
	if err != nil || family < own {
		t.Errorf("%v of %v, %v", own, family, err)
	}
	if all, err := machineTime(); err != nil || all < own {
		t.Errorf("%v of the machine, %v", all, err)
	}
	if peak, err := peakMemory(os.Getpid()); err != nil || peak < 1<<20 {
		t.Errorf("%d, %v", peak, err)
	}
}
