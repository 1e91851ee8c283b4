package bulk

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"hydragate/adapters"
)

// A csvColumn is a column of a CSV file of customers. A line has the columns of one identity, so
// a customer with several identities has several lines.
type csvColumn struct {
	name     string
	field    func(*customerLine, *identityFields) *string          // nil if rawField is set
	rawField func(*customerLine, *identityFields) *json.RawMessage // nil if field is set
}

// csvColumns returns all columns, in the order in which an export writes them.
func csvColumns() []csvColumn {
	type l = *customerLine
	type i = *identityFields
	return []csvColumn{
		{name: "id", field: func(l l, _ i) *string { return &l.ID }},
		{name: "email", field: func(l l, _ i) *string { return &l.Email }},
		{name: "phone_number", field: func(l l, _ i) *string { return &l.PhoneNumber }},
		{name: "first_name", field: func(l l, _ i) *string { return &l.FirstName }},
		{name: "last_name", field: func(l l, _ i) *string { return &l.LastName }},
		{name: "company_name", field: func(l l, _ i) *string { return &l.CompanyName }},
		{name: "locale", field: func(l l, _ i) *string { return &l.Locale }},
		{name: "timezone", field: func(l l, _ i) *string { return &l.Timezone }},
		{name: "metadata", rawField: func(l l, _ i) *json.RawMessage { return &l.Metadata }},
		{name: "fk_id", field: func(l l, _ i) *string { return &l.FKID }},
		{name: "fk_user_id", field: func(l l, _ i) *string { return &l.FKUserID }},
		{name: "source", field: func(l l, _ i) *string { return &l.Source }},
		{name: "context", field: func(l l, _ i) *string { return &l.Context }},
		{name: "channel", field: func(_ l, i i) *string { return &i.Channel }},
		{name: "external_id", field: func(_ l, i i) *string { return &i.ExternalID }},
		{name: "instance", field: func(_ l, i i) *string { return &i.Instance }},
		{name: "display_name", field: func(_ l, i i) *string { return &i.DisplayName }},
		{name: "username", field: func(_ l, i i) *string { return &i.Username }},
		{name: "role_override", field: func(_ l, i i) *string { return &i.RoleOverride }},
		{name: "identity_metadata", rawField: func(_ l, i i) *json.RawMessage { return &i.Metadata }},
		{name: "verified_at", field: func(_ l, i i) *string { return &i.VerifiedAt }},
		{name: "avatar_url", field: func(_ l, i i) *string { return &i.AvatarURL }},
		{name: "info_url", field: func(_ l, i i) *string { return &i.InfoURL }},
		{name: "page_url", field: func(_ l, i i) *string { return &i.PageURL }},
	}
}

// channelColumns are optional columns named after channels. Each contains an external id on its
// channel.
var channelColumns = adapters.Channels()

// A csvReader reads customers from CSV.
type csvReader struct {
	rows    *csv.Reader
	columns []int // by position: index in known, or ^index in channelColumns
	known   []csvColumn
}

// A lineError describes an invalid line. The following lines can still be read.
type lineError struct{ error }

// newCSVReader returns a reader of r. It reads the first line, which names the columns.
func newCSVReader(r io.Reader) (*csvReader, error) {
	b := bufio.NewReader(r)
	if bom, _ := b.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	c := &csvReader{rows: csv.NewReader(b), known: csvColumns()}
	c.rows.Comma = detectSeparator(b)
	c.rows.ReuseRecord = true
	head, err := c.rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: the first line must name the columns")
	}
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	for _, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		at := slices.IndexFunc(c.known, func(col csvColumn) bool { return col.name == name })
		if n := slices.Index(channelColumns, adapters.Channel(name)); n >= 0 {
			at = ^n
		} else if at < 0 {
			return nil, fmt.Errorf("line 1: unknown column %q: hydragate import --help lists the columns", name)
		}
		if slices.Contains(c.columns, at) {
			return nil, fmt.Errorf("line 1: duplicate column %q", name)
		}
		c.columns = append(c.columns, at)
	}
	return c, nil
}

// detectSeparator returns the character between the columns of the first line. Spreadsheets write
// semicolons in many European locales.
func detectSeparator(b *bufio.Reader) rune {
	head, _ := b.Peek(b.Size())
	first, _, _ := bytes.Cut(head, []byte("\n"))
	for _, s := range []string{",", ";", "\t"} {
		if bytes.Contains(first, []byte(s)) {
			return rune(s[0])
		}
	}
	return ','
}

// next implements lineReader.
func (c *csvReader) next() (l customerLine, n int, err error) {
	row, err := c.rows.Read()
	var invalid *csv.ParseError
	switch {
	case errors.Is(err, csv.ErrFieldCount):
		n, _ = c.rows.FieldPos(0)
		return l, n, lineError{fmt.Errorf("the line has %d columns, but the first line has %d", len(row), len(c.columns))}
	case errors.As(err, &invalid):
		return l, invalid.StartLine, lineError{invalid.Err}
	case err != nil:
		return l, 0, err
	}
	n, _ = c.rows.FieldPos(0)
	var i identityFields
	var others []identityFields // of channelColumns
	for at, column := range c.columns {
		value := unescapeFormula(row[at])
		switch {
		case value == "":
		case column < 0:
			others = append(others, identityFields{Channel: string(channelColumns[^column]), ExternalID: value})
		case c.known[column].rawField != nil:
			*c.known[column].rawField(&l, &i) = json.RawMessage(value)
		default:
			*c.known[column].field(&l, &i) = value
		}
	}
	if i.Channel != "" || i.ExternalID != "" {
		l.Identities = append(l.Identities, i)
	}
	for _, other := range others {
		other.Instance = i.Instance
		l.Identities = append(l.Identities, other)
	}
	return l, n, nil
}

// A csvWriter writes customers as CSV, with a line for each identity.
type csvWriter struct {
	w     *csv.Writer
	known []csvColumn
	row   []string
}

func newCSVWriter(w io.Writer) (*csvWriter, error) {
	c := &csvWriter{w: csv.NewWriter(w), known: csvColumns()}
	for _, col := range c.known {
		c.row = append(c.row, col.name)
	}
	return c, c.w.Write(c.row)
}

func (c *csvWriter) write(l customerLine) error {
	identities := l.Identities
	if len(identities) == 0 {
		identities = []identityFields{{}}
	}
	for _, i := range identities {
		for n, col := range c.known {
			if col.rawField != nil {
				c.row[n] = escapeFormula(string(*col.rawField(&l, &i)))
			} else {
				c.row[n] = escapeFormula(*col.field(&l, &i))
			}
		}
		if err := c.w.Write(c.row); err != nil {
			return err
		}
	}
	return nil
}

func (c *csvWriter) flush() error {
	c.w.Flush()
	return c.w.Error()
}

// formulaPrefixes are the characters that start a formula in a spreadsheet. A formula can send the
// content of other cells to a server, so values that start with one are escaped with an apostrophe.
const formulaPrefixes = "=+-@\t\r\n'"

func escapeFormula(s string) string {
	if s != "" && strings.IndexByte(formulaPrefixes, s[0]) >= 0 {
		return "'" + s
	}
	return s
}

func unescapeFormula(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.IndexByte(formulaPrefixes, s[1]) >= 0 {
		return s[1:]
	}
	return s
}
