# What is done with this repository. `make` alone lists it.

SHELL       := /bin/bash
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X hydragate/cmd/hydragate/app.version=$(VERSION)
TESTFLAGS   ?= -count=1 -timeout 20m
BENCHFLAGS  ?=
LINTFLAGS   ?=
PROOF       ?=

# The race detector watches all code but SQLite, which is C made into Go: it would be
# thirty times slower, and what it does within itself is not ours to judge.
UNWATCHED := -gcflags='modernc.org/...=-race=false'

# The Go that is installed builds this; none is fetched.
export GOTOOLCHAIN := local

.DEFAULT_GOAL := help
.PHONY: help build check lint test test-long proof bench fuzz clean

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/hydragate, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/hydragate ./cmd/hydragate

check: ## Look at the code: formatting and vet
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	go vet ./...

# golangci-lint is built from source at the version in tools/go.mod and kept in GOCACHE.
lint: ## Run the linters of .golangci.yml; takes minutes the first time, then seconds
	go tool -modfile=tools/go.mod golangci-lint run $(LINTFLAGS) ./...

test: ## Run everything, with the race detector, on SQLite, PostgreSQL and Redis
	@.ci/servers --check
	@$(MAKE) --no-print-directory check
	go mod tidy -diff
	@echo 'go test -race $(TESTFLAGS) ./...'; CGO_ENABLED=1 .ci/servers go test -race $(UNWATCHED) $(TESTFLAGS) ./...
	.ci/fuzz 10s

test-long: ## Run everything whole: what test plays in short, and minutes of fuzzing; takes hours
	@.ci/servers --check
	@$(MAKE) --no-print-directory check
	HYDRAGATE_TEST_LONG=1 .ci/servers go test -count=1 -timeout 4h -p 1 ./...
	.ci/fuzz 5m

proof: ## Run one proof of SECURITY.md whole and print its figures: make proof PROOF=TestName
	@set -o pipefail; dir=$$(grep -rlE '^func $(or $(PROOF),-)\(' --include='*_test.go' . | xargs -rn1 dirname | sort -u); \
	if [ -z "$$dir" ]; then echo "usage: make proof PROOF=TestName; SECURITY.md has the names" >&2; exit 2; fi; \
	HYDRAGATE_TEST_LONG=1 .ci/servers go test -count=1 -timeout 4h -v -run '^$(PROOF)$$' $$dir | grep -vE '^ *(=== |--- PASS)'

bench: ## Measure, with a PostgreSQL that keeps what it says it keeps
	.ci/servers --durable go run ./cmd/hydrabench $(BENCHFLAGS)

fuzz: ## Fuzz everything that reads what a stranger sends, a minute each
	.ci/fuzz 1m

clean: ## Remove what was built
	rm -rf bin
