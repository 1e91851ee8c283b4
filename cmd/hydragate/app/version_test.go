package app

import (
	"runtime/debug"
	"testing"
)

func TestBuildVersion(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct {
		name     string
		module   string
		settings map[string]string
		want     string
	}{
		{"no information", "", nil, "(devel)"},
		{"go run", "(devel)", nil, "(devel)"},
		{"go install", "v1.2.3", nil, "v1.2.3"},
		{"revision only", "", map[string]string{"vcs.revision": revision}, "0123456789ab"},
		{
			"revision and time", "v0.0.0-20261130162000-0123456789ab",
			map[string]string{"vcs.revision": revision, "vcs.time": "2026-11-30T16:20:00Z", "vcs.modified": "false"},
			"0123456789ab (2026-11-30T16:20:00Z)",
		},
		{
			"modified", "",
			map[string]string{"vcs.revision": revision, "vcs.time": "2026-11-30T16:20:00Z", "vcs.modified": "true"},
			"0123456789ab-dirty (2026-11-30T16:20:00Z)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info := &debug.BuildInfo{Main: debug.Module{Version: tt.module}}
			for k, v := range tt.settings {
				info.Settings = append(info.Settings, debug.BuildSetting{Key: k, Value: v})
			}
			if got := buildVersion(info); got != tt.want {
				t.Errorf("buildVersion = %q, want %q", got, tt.want)
			}
		})
	}
}
