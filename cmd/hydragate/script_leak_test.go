package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
)

// planted is a word like a code that Steve writes, so that the search for codes is
// known to find one.
const planted = "KLMNPQ"

// nothing leaked: no code and no secret is where it must not be: in the database, in
// Redis, in the log, with the agent. The search is not blind: it finds the planted
// word where that must be, and the instance in the log.
func (w *world) nothingLeaked(ts *testscript.TestScript, args []string) error {
	places, err := w.everything()
	if err != nil {
		return err
	}
	if len(w.codes) == 0 {
		return errors.New("no code was issued")
	}
	for place, content := range places {
		found := written(planted, place).Match(content)
		if place == "log" {
			found = bytes.Contains(content, []byte(ts.Getenv("INSTANCE")))
		}
		if !found {
			return fmt.Errorf("the search is blind: what must be found is not in the %s", place)
		}
		for _, code := range w.codes {
			if at := written(code, place).FindIndex(content); at != nil {
				return fmt.Errorf("a code is in the %s: …%q…", place, content[max(0, at[0]-60):min(len(content), at[1]+60)])
			}
		}
		for _, secret := range w.secrets {
			if at := bytes.Index(content, []byte(secret)); at >= 0 {
				return fmt.Errorf("a secret is in the %s: …%q…", place, content[max(0, at-60):at])
			}
		}
	}
	return nil
}

// written finds a code however it is written: in any case, and with anything between,
// as long as it is a word of its own. In the bytes of files words have no ends, so
// that only the likely ways of writing it can be told from chance.
func written(code, place string) *regexp.Regexp {
	if place == "files" && len(code) > 6 {
		return regexp.MustCompile(`(?i)` + code[:4] + `( – |-| |)` + code[4:8] + `( – |-| |)` + code[8:])
	}
	a, b := code[:3], code[3:]
	if place == "files" {
		return regexp.MustCompile(a + `(-|)` + b + `|` + strings.ToLower(a) + `( – |-|)` + strings.ToLower(b))
	}
	return regexp.MustCompile(`(?i)(?:^|claim|[^a-z0-9+/])` + strings.Join(strings.Split(code, ""), `[^a-z0-9]{0,3}`) + `(?:[^a-z0-9+/]|$)`)
}

// everything gives all that is kept and said, by place.
func (w *world) everything() (map[string][]byte, error) {
	places := map[string][]byte{}
	w.mind.set(func() {
		for _, e := range w.mind.events {
			places["agent"] = append(append(places["agent"], e.body...), '\n')
		}
	})
	var err error
	if places["log"], err = os.ReadFile(filepath.Join(w.dir, logFile)); err != nil {
		return nil, err
	}
	if places["database"], err = tables(w.dsn); err != nil {
		return nil, err
	}
	if w.engine == "sqlite" {
		places["files"], err = files(filepath.Join(w.dir, "data"))
	} else {
		places["redis"], err = keys()
	}
	return places, err
}

// tables gives every row of every table as text.
func tables(dsn string) ([]byte, error) {
	names := "select name from sqlite_master where type = 'table' and name not like 'sqlite%'"
	if strings.HasPrefix(dsn, "postgres") {
		names = "select table_name::text from information_schema.tables where table_schema = 'public'"
	}
	found, err := query(dsn, names)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, name := range found {
		rows, err := query(dsn, "select * from "+name)
		if err != nil {
			return nil, err
		}
		all = append(append(all, strings.Join(rows, "\n")...), '\n')
	}
	return all, nil
}

// files gives the bytes of all files in a folder: also what was deleted and not
// overwritten yet.
func files(dir string) ([]byte, error) {
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

// keys gives every key of the Redis of the tests with what it holds, and the planted
// word for as long as that takes.
func keys() ([]byte, error) {
	opts, err := redis.ParseURL(os.Getenv("HYDRAGATE_TEST_REDIS"))
	if err != nil {
		return nil, err
	}
	client, ctx := redis.NewClient(opts), context.Background()
	defer func() { _ = client.Close() }()
	key := "planted-" + uuid.NewString()
	if err := client.HSet(ctx, key, "m", planted).Err(); err != nil {
		return nil, err
	}
	defer client.Del(ctx, key)
	var all bytes.Buffer
	each := client.Scan(ctx, 0, "*", 1000).Iterator()
	for each.Next(ctx) {
		hash, _ := client.HGetAll(ctx, each.Val()).Result() // another kind of key has no fields
		text, _ := client.Get(ctx, each.Val()).Result()     // and this one no text
		fmt.Fprintln(&all, each.Val(), hash, text)
	}
	return all.Bytes(), each.Err()
}
