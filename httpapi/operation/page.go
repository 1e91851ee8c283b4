package operation

import (
	"encoding/hex"
	"math/big"
	"strings"
	"time"

	"hydragate/httpapi/fastapi"
)

// A PageQuery selects a page of a list.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Maximum number of items to return."`
	Cursor string `query:"cursor" format:"uuid" doc:"next_cursor of the previous page."`
}

// A Page is a page of a list, with the cursor of the next page.
type Page[T any] struct {
	Items      []T     `json:"items" nullable:"false" doc:"Items of this page."`
	NextCursor *string `json:"next_cursor" doc:"Cursor of the next page. Null: this is the last page."`
}

// A PageOut is the response that contains a page.
type PageOut[T any] struct{ Body Page[T] }

// FetchPage returns a page of a list. It requests one additional row from list to find out whether
// there is a next page. id returns the ID of a row, and show converts a row.
func FetchPage[R, T any](
	p PageQuery, list func(after string, limit int) ([]R, error), id func(R) string, show func(R) T,
) (*PageOut[T], error) {
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

// NullableString returns nil for an empty string.
func NullableString(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// NullableTime returns nil for the zero time, and other times in UTC.
func NullableTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// PreviousID returns the greatest UUID below id, or "" if there is none. A list that starts after
// it begins with the row with that ID, if it exists.
func PreviousID(id string) string {
	n, ok := new(big.Int).SetString(strings.ReplaceAll(id, "-", ""), 16)
	if !ok || n.Sign() == 0 {
		return ""
	}
	digits := n.Sub(n, big.NewInt(1)).FillBytes(make([]byte, 16))
	before, _ := fastapi.ParseUUID(hex.EncodeToString(digits))
	return before
}
