package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A procStat contains some fields of /proc/PID/stat.
type procStat struct {
	command  string
	parent   int
	own      time.Duration // user and system time
	children time.Duration // of children that have exited
}

// clockTick is USER_HZ of the kernel, which is the same on every platform that Go supports.
const clockTick = time.Second / 100

var errMalformedStat = errors.New("malformed stat file")

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, fmt.Errorf("read the processor time of a process: %w", err)
	}
	return parseStat(string(b))
}

// parseStat parses a line of a stat file. The command is in parentheses and may contain any
// character, so fields are counted from the last parenthesis.
func parseStat(line string) (procStat, error) {
	start, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if start < 0 || end < start {
		return procStat{}, errMalformedStat
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 15 {
		return procStat{}, errMalformedStat
	}
	var ns [15]int64
	for _, i := range []int{1, 11, 12, 13, 14} {
		var err error
		if ns[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return procStat{}, errMalformedStat
		}
	}
	return procStat{
		command: line[start+1 : end], parent: int(ns[1]),
		own: time.Duration(ns[11]+ns[12]) * clockTick, children: time.Duration(ns[13]+ns[14]) * clockTick,
	}, nil
}

// processTime returns the processor time of a process so far.
func processTime(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	return s.own, err
}

// processTreeTime returns the processor time of a process and its children so far. It includes
// children that have exited, so it never decreases.
func processTreeTime(parent int) (time.Duration, error) {
	p, err := readStat(parent)
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	sum := p.own + p.children
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if s, err := readStat(pid); err == nil && s.parent == parent {
			sum += s.own
		}
	}
	return sum, nil
}

// machineTime returns the time that all processors have been busy so far, including time that the
// hypervisor gave to other machines.
func machineTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the processor time of the machine: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errMalformedStat
	}
	var sum int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // all except idle and iowait
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, errMalformedStat
		}
		sum += n
	}
	return time.Duration(sum) * clockTick, nil
}

// peakMemory returns the peak resident memory of a process, in bytes.
func peakMemory(pid int) (int64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read the memory of a process: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the status of the process contains no VmHWM")
}
