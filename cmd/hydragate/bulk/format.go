// Package bulk imports customers from files and exports them to files, in CSV or JSON Lines.
package bulk

import (
	"errors"
	"path/filepath"
	"strings"
)

// The formats of files.
const (
	FormatCSV   = "csv"
	FormatJSONL = "jsonl"
)

// detectFormat returns format, or the format of the file by its name if format is empty.
func detectFormat(format, file string) (string, error) {
	if format != "" {
		return format, nil
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv", ".tsv":
		return FormatCSV, nil
	case ".jsonl", ".ndjson", ".json":
		return FormatJSONL, nil
	}
	return "", errors.New("the name of the file does not show its format: add --format csv or --format jsonl")
}
