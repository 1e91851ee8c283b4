package app

import (
	"runtime/debug"
)

// version is set by the linker; go install and go run leave the module's own.
var version = ""

func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
