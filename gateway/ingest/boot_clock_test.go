package ingest

import (
	"runtime"
	"testing"
	"time"
)

func TestReadBootClock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows it")
	}
	then := readBootClock()
	if ago := readBootClock().since(then); then.BootID == "" || then.Elapsed <= 0 || ago < 0 || ago > time.Minute {
		t.Errorf("%+v, %s ago", then, ago)
	}
}
