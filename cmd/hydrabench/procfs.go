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

// A procStat is the part of /proc/PID/stat that is read here.
type procStat struct {
	command  string
	parent   int
	own      time.Duration // user and system time
	children time.Duration // of its children that have ended
}

const clockTick = time.Second / 100 // the kernel's USER_HZ, the same on every platform of Go

var errMalformedStat = errors.New("not a stat of a process")

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, fmt.Errorf("read the processor time of a process: %w", err)
	}
	return parseStat(string(b))
}

// parseStat reads a stat line. The command stands in brackets and may hold anything,
// so the fields are counted from the last bracket.
func parseStat(line string) (procStat, error) {
	open, shut := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || shut < open {
		return procStat{}, errMalformedStat
	}
	fields := strings.Fields(line[shut+1:])
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
		command: line[open+1 : shut], parent: int(ns[1]),
		own: time.Duration(ns[11]+ns[12]) * clockTick, children: time.Duration(ns[13]+ns[14]) * clockTick,
	}, nil
}

// processTime gives the time a process has used so far.
func processTime(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	return s.own, err
}

// processTreeTime gives the time that a process and all its children have used so far,
// those that have ended included, so that it never falls.
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

// machineTime gives the time that all processors together have been busy so far, with
// what a hypervisor gave to others.
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
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // all but idle and waiting for a disk
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, errMalformedStat
		}
		sum += n
	}
	return time.Duration(sum) * clockTick, nil
}

// peakMemory gives the most memory a process has held, in bytes.
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
	return 0, errors.New("the kernel does not tell the memory of a process")
}
