package operation

import (
	"bytes"
	"io"

	"github.com/danielgtaylor/huma/v2"
)

// BaseContext lets a type embed huma.Context, whose method Context would hide the field.
type BaseContext huma.Context

// An RequestContext request was authenticated and checked. What its handler reads from it
// is clean: ids in their canonical spelling, the last of repeated query keys, a body
// that is JSON and of the right shape.
type RequestContext struct {
	BaseContext
	Values map[string]string // by "query/limit"
	Body   []byte
}

func (c *RequestContext) Param(name string) string { return c.Values["path/"+name] }

func (c *RequestContext) Query(name string) string { return c.Values["query/"+name] }

func (c *RequestContext) BodyReader() io.Reader { return bytes.NewReader(c.Body) }

func (c *RequestContext) Header(name string) string {
	if name == "Content-Type" {
		return "application/json"
	}
	return c.BaseContext.Header(name)
}
