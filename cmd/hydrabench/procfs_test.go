package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "42 (post) gres: x) S 7 42 42 0 -1 4194560 100 200 0 0 150 50 30 20 20 0 1 0 100 1000 10 184467440737"
	s, err := parseStat(line)
	want := procStat{command: "post) gres: x", parent: 7, own: 2 * time.Second, children: 500 * time.Millisecond}
	if err != nil || s != want {
		t.Errorf("parseStat(%q) = %+v, %v, want %+v", line, s, err, want)
	}
	for _, line := range []string{"", "42 (x", "42 (x) S 1", "42 (x) S a 1 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, err := parseStat(line); err == nil {
			t.Errorf("parseStat(%q) = nil, want an error", line)
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
	tree, err := processTreeTime(os.Getpid())
	if err != nil || tree < own {
		t.Errorf("processTreeTime = %v, %v, want at least %v", tree, err, own)
	}
	if all, err := machineTime(); err != nil || all < own {
		t.Errorf("machineTime = %v, %v, want at least %v", all, err, own)
	}
	if peak, err := peakMemory(os.Getpid()); err != nil || peak < 1<<20 {
		t.Errorf("peakMemory = %d, %v, want at least 1 MiB", peak, err)
	}
}
