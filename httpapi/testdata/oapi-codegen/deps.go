// Package client is where TestOpenAPI_GenerateClient generates a client. It names the packages that the
// generated code imports.
package client

import (
	_ "github.com/getkin/kin-openapi/openapi3"
	_ "github.com/labstack/echo/v4"
	_ "github.com/oapi-codegen/runtime"
)
