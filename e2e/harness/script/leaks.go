//go:build unix

package script

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

// checkLeaks implements the command expect-no-leaks. It searches the database, Redis, the log and the
// events of the application for claim codes and secrets. It must find the planted code, and the
// instance in the log.
func (w *scriptFixture) checkLeaks(ts *testscript.TestScript, _ []string) error {
	places, err := w.dumpPlaces()
	if err != nil {
		return err
	}
	if len(w.codes) == 0 {
		return errors.New("no code has been issued")
	}
	for place, content := range places {
		text := newSearchText(place, content)
		found := place == "log" && bytes.Contains(content, []byte(ts.Getenv("INSTANCE"))) ||
			place != "log" && text.findCode(harness.PlantedCode) != nil
		if !found {
			return fmt.Errorf("planted code not found in the %s", place)
		}
		for _, code := range w.codes {
			if at := text.findCode(code); at != nil {
				return fmt.Errorf("claim code in the %s: …%q…", place, content[max(0, at[0]-60):min(len(content), at[1]+60)])
			}
		}
		for _, secret := range w.secrets {
			if at := bytes.Index(content, []byte(secret)); at >= 0 {
				return fmt.Errorf("secret in the %s: …%q…", place, content[max(0, at-60):at])
			}
		}
	}
	return nil
}

// A searchText is the content of a place in which codes are searched for.
type searchText struct {
	place   string
	content []byte
	letters []byte // letters and digits of content, in upper case
}

func newSearchText(place string, content []byte) searchText {
	letters := make([]byte, 0, len(content))
	for _, c := range content {
		switch {
		case 'a' <= c && c <= 'z':
			letters = append(letters, c-'a'+'A')
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			letters = append(letters, c)
		}
	}
	return searchText{place, content, letters}
}

// findCode returns the position of a code in the content, or nil if it does not occur. It matches the
// pattern only if the letters occur, because that takes long.
func (s searchText) findCode(code string) []int {
	if !bytes.Contains(s.letters, []byte(code)) {
		return nil
	}
	return codePattern(code, s.place).FindIndex(s.content)
}

// codePattern returns an expression that matches a code in any case and with any separators, as a
// separate word. In the bytes of files, where words have no boundaries, it matches only the common
// spellings, because others occur by chance.
func codePattern(code, place string) *regexp.Regexp {
	if place == "files" && len(code) > 6 {
		return regexp.MustCompile(`(?i)` + code[:4] + `( – |-| |)` + code[4:8] + `( – |-| |)` + code[8:])
	}
	a, b := code[:3], code[3:]
	if place == "files" {
		return regexp.MustCompile(a + `(-|)` + b + `|` + strings.ToLower(a) + `( – |-|)` + strings.ToLower(b))
	}
	return regexp.MustCompile(
		`(?i)(?:^|claim|[^a-z0-9+/])` + strings.Join(strings.Split(code, ""), `[^a-z0-9]{0,3}`) + `(?:[^a-z0-9+/]|$)`,
	)
}

// dumpPlaces returns what the gateway stored, logged and delivered, by place.
func (w *scriptFixture) dumpPlaces() (map[string][]byte, error) {
	places := map[string][]byte{}
	w.app.Update(func() {
		for _, e := range w.app.Events {
			places["application"] = append(append(places["application"], e.Body...), '\n')
		}
	})
	var err error
	if places["log"], err = os.ReadFile(filepath.Join(w.dir, logFile)); err != nil {
		return nil, err
	}
	if places["database"], err = harness.DumpTables(w.databaseURL); err != nil {
		return nil, err
	}
	if w.engine == "sqlite" {
		places["files"], err = harness.DumpFiles(filepath.Join(w.dir, "data"))
	} else {
		places["redis"], err = harness.DumpTestRedis()
	}
	return places, err
}
