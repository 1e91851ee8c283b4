//go:build unix

package harness

import (
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
