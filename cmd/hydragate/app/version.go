package app

import (
	"runtime/debug"
	"time"
)

// version is set by the linker in release builds.
var version = ""

// Version returns the version of the program: the one that the linker set, else the version of
// the module, else the revision and commit time that the Go command recorded, with the suffix
// "-dirty" if the working tree had changes.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return buildVersion(info)
}

// buildVersion returns the version that info describes.
func buildVersion(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		if info.Main.Version == "" {
			return "(devel)"
		}
		return info.Main.Version
	}
	v := revision[:min(len(revision), 12)]
	if settings["vcs.modified"] == "true" {
		v += "-dirty"
	}
	if t, err := time.Parse(time.RFC3339, settings["vcs.time"]); err == nil {
		v += " (" + t.UTC().Format(time.RFC3339) + ")"
	}
	return v
}
