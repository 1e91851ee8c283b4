package harness

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hydragate/claim"
)

// DiffRows gives a row in which two states differ, or "".
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

// DumpFiles gives the bytes of all files in a folder: also what was deleted and not
// overwritten yet.
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

// codeSpellings are six ways in which a code could lie about.
func codeSpellings(code string) []string {
	lower := strings.ToLower(code)
	return []string{code, lower, claim.Group(code), claim.Group(lower), code[:3] + " " + code[3:], claim.Spell(code)}
}

// FindCodes names the codes that are in any of the texts, in any spelling.
func FindCodes(codes []string, texts map[string]string) (where []string) {
	for name, text := range texts {
		for i, code := range codes {
			for _, s := range codeSpellings(code) {
				if strings.Contains(text, s) {
					where = append(where, fmt.Sprintf("%s holds code %d as %q", name, i, s))
				}
			}
		}
	}
	return where
}
