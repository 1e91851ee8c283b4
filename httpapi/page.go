package httpapi

import (
	"encoding/hex"
	"math/big"
	"strings"
	"time"
)

// PageOf is how lists are asked for: a cursor, and how many rows.
type PageOf struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" format:"uuid" doc:"next_cursor of the page before."`
}

// A page is a part of a list, and where the next one begins.
type page[T any] struct {
	Items      []T     `json:"items" nullable:"false"`
	NextCursor *string `json:"next_cursor"`
}

type paged[T any] struct{ Body page[T] }

// pageFrom asks list for one row more than wanted, to know whether there is a next
// page.
func pageFrom[R, T any](p PageOf, list func(after string, limit int) ([]R, error), id func(R) string, show func(R) T) (*paged[T], error) {
	rows, err := list(p.Cursor, p.Limit+1)
	if err != nil {
		return nil, err
	}
	out := page[T]{Items: []T{}}
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		last := id(rows[p.Limit-1])
		out.NextCursor = &last
	}
	for _, r := range rows {
		out.Items = append(out.Items, show(r))
	}
	return &paged[T]{out}, nil
}

// orNull is how an empty text is shown.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// timeOrNull is how a time that did not come is shown.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// justBefore gives the id right before id: a list in order of id that starts after it
// begins with the row of id, if there is one.
func justBefore(id string) string {
	n, ok := new(big.Int).SetString(strings.ReplaceAll(id, "-", ""), 16)
	if !ok || n.Sign() == 0 {
		return ""
	}
	digits := n.Sub(n, big.NewInt(1)).FillBytes(make([]byte, 16))
	before, _ := parseUUID(hex.EncodeToString(digits))
	return before
}
