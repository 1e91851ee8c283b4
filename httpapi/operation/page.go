package operation

import (
	"encoding/hex"
	"math/big"
	"strings"
	"time"

	"hydragate/httpapi/fastapi"
)

// PageQuery is how lists are asked for: a cursor, and how many rows.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" format:"uuid" doc:"next_cursor of the page before."`
}

// A Page is a part of a list, and where the next one begins.
type Page[T any] struct {
	Items      []T     `json:"items" nullable:"false"`
	NextCursor *string `json:"next_cursor"`
}

type PageOut[T any] struct{ Body Page[T] }

// FetchPage asks list for one row more than wanted, to know whether there is a next
// page.
func FetchPage[R, T any](p PageQuery, list func(after string, limit int) ([]R, error), id func(R) string, show func(R) T) (*PageOut[T], error) {
	rows, err := list(p.Cursor, p.Limit+1)
	if err != nil {
		return nil, err
	}
	out := Page[T]{Items: []T{}}
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		last := id(rows[p.Limit-1])
		out.NextCursor = &last
	}
	for _, r := range rows {
		out.Items = append(out.Items, show(r))
	}
	return &PageOut[T]{out}, nil
}

// NullableString is how an empty text is shown.
func NullableString(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// NullableTime is how a time that did not come is shown.
func NullableTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// PreviousID gives the id right before id: a list in order of id that starts after it
// begins with the row of id, if there is one.
func PreviousID(id string) string {
	n, ok := new(big.Int).SetString(strings.ReplaceAll(id, "-", ""), 16)
	if !ok || n.Sign() == 0 {
		return ""
	}
	digits := n.Sub(n, big.NewInt(1)).FillBytes(make([]byte, 16))
	before, _ := fastapi.ParseUUID(hex.EncodeToString(digits))
	return before
}
