package ingest

import (
	"runtime"
	"testing"
	"time"
)

func TestReadBootClock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has this clock")
	}
	then := readBootClock()
	if ago := readBootClock().since(then); then.BootID == "" || then.Elapsed <= 0 || ago < 0 || ago > time.Minute {
		t.Errorf("readBootClock = %+v, %s ago", then, ago)
	}
}
