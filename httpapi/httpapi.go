// Package httpapi is what staff, dashboards, agents and providers may ask over HTTP.
// It knows statuses, shapes and rights, and leaves every decision to the packages
// behind it.
package httpapi
