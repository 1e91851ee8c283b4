# What is done with this repository. `make` alone lists it.

SHELL       := /bin/bash
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X main.version=$(VERSION)
TESTFLAGS   ?= -count=1 -timeout 9m
BENCHFLAGS  ?=
FUZZTIME    ?= 30s

# The Go that is installed builds this; none is fetched.
export GOTOOLCHAIN := local

.DEFAULT_GOAL := help
.PHONY: help build check test bench fuzz clean

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/hydragate, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/hydragate ./cmd/hydragate

check: ## Look at the code: formatting and vet
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	go vet ./...

test: ## Run everything, with the race detector, on SQLite, PostgreSQL and Redis
	@.ci/servers --check
	@$(MAKE) --no-print-directory check
	go mod tidy -diff
	@echo 'go test -race $(TESTFLAGS) ./...'; CGO_ENABLED=1 .ci/servers go test -race $(TESTFLAGS) ./...

bench: ## Measure, with a PostgreSQL that keeps what it says it keeps
	.ci/servers --durable go run ./cmd/hydrabench $(BENCHFLAGS)

fuzz: ## Fuzz what each channel takes from strangers, for FUZZTIME each
	@set -e; for channel in telegram sms slack; do go test -run '^$$' -fuzz FuzzReceive -fuzztime $(FUZZTIME) ./adapters/$$channel; done

clean: ## Remove what was built
	rm -rf bin
