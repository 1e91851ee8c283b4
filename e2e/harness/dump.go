//go:build unix

package harness

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hydragate/claim"
)

// DiffRows returns a row that was added or removed, or "" if there is none.
func DiffRows(before, after []string) string {
	had := map[string]int{}
	for _, row := range before {
		had[row]++
	}
	for _, row := range after {
		if had[row]--; had[row] < 0 {
			return "new: " + row
		}
	}
	for row, n := range had {
		if n > 0 {
			return "gone: " + row
		}
	}
	return ""
}

// DumpFiles returns the bytes of all files in a directory, including deleted rows of a database.
func DumpFiles(dir string) ([]byte, error) {
	var all []byte
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(append(all, b...), '\n')
		return err
	})
	return all, err
}

// codeSpellings returns the spellings of a code to search for.
func codeSpellings(code string) []string {
	lower := strings.ToLower(code)
	return []string{code, lower, claim.Group(code), claim.Group(lower), code[:3] + " " + code[3:], claim.Spell(code)}
}

// FindCodes returns where the codes occur in texts, in any spelling.
func FindCodes(codes []string, texts map[string]string) (where []string) {
	for name, text := range texts {
		for i, code := range codes {
			for _, s := range codeSpellings(code) {
				if strings.Contains(text, s) {
					where = append(where, fmt.Sprintf("%s contains code %d as %q", name, i, s))
				}
			}
		}
	}
	return where
}

// minFoundText is the length of the shortest text that FindTexts finds.
const minFoundText = 6

// FindTexts calls found for each occurrence of the texts in b. It reads b once, however many texts there are.
// It does not find texts that are shorter than a code.
func FindTexts(b []byte, texts []string, found func(text string, at int)) {
	const bits = 24
	hash := func(start []byte) uint64 {
		return (uint64(binary.LittleEndian.Uint32(start)) | uint64(binary.LittleEndian.Uint16(start[4:]))<<32) *
			0x9e3779b97f4a7c15 >> (64 - bits)
	}
	byStart := map[string][]string{}
	var starts [1 << bits / 64]uint64 // a set of hashes
	for _, text := range texts {
		if len(text) >= minFoundText {
			start := text[:minFoundText]
			byStart[start] = append(byStart[start], text)
			n := hash([]byte(start))
			starts[n/64] |= 1 << (n % 64)
		}
	}
	for at := range len(b) - minFoundText + 1 {
		if n := hash(b[at:]); starts[n/64]&(1<<(n%64)) == 0 {
			continue
		}
		for _, text := range byStart[string(b[at:at+minFoundText])] {
			if bytes.HasPrefix(b[at:], []byte(text)) {
				found(text, at)
			}
		}
	}
}

// Dump returns the log and the content of the database and of Redis, by place.
func (h *ClaimFixture) Dump(log string) map[string]string {
	h.T.Helper()
	all := map[string]string{"log": log, "redis": DumpRedis(h.T, h.Redis)}
	if h.IsPostgres() {
		all["database"] = strings.Join(h.AllRows(""), "\n")
		return all
	}
	for _, file := range []string{h.DSN, h.DSN + "-wal"} {
		b, err := os.ReadFile(file)
		if err != nil {
			h.T.Fatal(err)
		}
		all[file] = string(b)
	}
	return all
}
