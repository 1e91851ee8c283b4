# Tasks of this repository. `make` without a target lists them.

SHELL       := /bin/bash
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X hydragate/cmd/hydragate/app.version=$(VERSION)
TESTFLAGS   ?= -count=1 -timeout 20m
BENCHFLAGS  ?=
LINTFLAGS   ?=
PROOF       ?=

# The race detector covers all code but SQLite, which is C translated to Go and would be thirty
# times slower.
RACE := -race -gcflags='modernc.org/...=-race=false'

# Packages that are tested at the same time: one more than there are processors, because tests wait.
PACKAGES := $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)

# Build with the installed Go; never download another version.
export GOTOOLCHAIN := local

.DEFAULT_GOAL := help
.PHONY: help build check lint test test-long proof bench fuzz clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/hydragate, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/hydragate ./cmd/hydragate

check: ## Check formatting and run go vet
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	CGO_ENABLED=1 go vet $(RACE) ./... # compiles as the tests do

# golangci-lint is built from source at the version in tools/go.mod and kept in GOCACHE.
lint: ## Run the linters of .golangci.yml; takes minutes the first time, then seconds
	go tool -modfile=tools/go.mod golangci-lint run $(LINTFLAGS) ./...

test: ## Run all tests with the race detector, on SQLite, PostgreSQL and Redis
	@.ci/servers --check
	@$(MAKE) --no-print-directory check
	go mod tidy -diff
	@echo 'go test -race $(TESTFLAGS) ./...'; CGO_ENABLED=1 .ci/servers go test $(RACE) -vet=off -p $(PACKAGES) $(TESTFLAGS) ./...

test-long: ## Run the long forms of all tests, and fuzz for five minutes each; takes hours
	@.ci/servers --check
	@$(MAKE) --no-print-directory check
	HYDRAGATE_TEST_LONG=1 .ci/servers go test -count=1 -timeout 4h -p 1 ./...
	.ci/fuzz 5m

proof: ## Run the long form of one test of SECURITY.md and print its figures: make proof PROOF=TestName
	@set -o pipefail; dir=$$(grep -rlE '^func $(or $(PROOF),-)\(' --include='*_test.go' . | xargs -rn1 dirname | sort -u); \
	if [ -z "$$dir" ]; then echo "usage: make proof PROOF=TestName; SECURITY.md has the names" >&2; exit 2; fi; \
	HYDRAGATE_TEST_LONG=1 .ci/servers go test -count=1 -timeout 4h -v -run '^$(PROOF)$$' $$dir | grep -vE '^ *(=== |--- PASS)'

bench: ## Run the benchmarks, with a durable PostgreSQL
	.ci/servers --durable go run ./cmd/hydrabench $(BENCHFLAGS)

fuzz: ## Fuzz every parser of untrusted input for a minute
	.ci/fuzz 1m

clean: ## Remove build output
	rm -rf bin
