//go:build unix

package harness

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
)

// OpenFiles returns the number of open files of a gateway that runs as a separate process.
func (h *Harness) OpenFiles(p *Process) int {
	h.T.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		h.T.Fatal(err)
	}
	return len(files)
}

// ResetPeakMemory resets VmHWM of a gateway that runs as a separate process to the current value.
func (h *Harness) ResetPeakMemory(p *Process) {
	h.T.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.Cmd.Process.Pid), []byte("5"), 0); err != nil {
		h.T.Fatal(err)
	}
}

// Metric returns the value of a metric without labels of a gateway.
func (h *Harness) Metric(p *Process, name string) float64 {
	h.T.Helper()
	c := Client{URL: "http://" + p.Addr, HTTP: h.API.HTTP}
	res, err := c.Do(h.T.Context(), http.MethodGet, "/metrics", BearerHeader(AdminKey), "")
	if err != nil {
		h.T.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(res.Body)
	if m == nil {
		h.T.Fatalf("GET /metrics = %d %.200s, want %s", res.Status, res.Body, name)
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		h.T.Fatal(err)
	}
	return value
}
