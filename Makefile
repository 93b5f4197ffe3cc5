SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)
FUZZTIME ?= 30s

GOLANGCI_VERSION := 2.15.0
GOLANGCI := bin/golangci-lint

.PHONY: help
help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/aggregator and bin/loadgen
	go build -ldflags '$(LDFLAGS)' -o bin/aggregator ./cmd/aggregator
	go build -o bin/loadgen ./scripts/loadgen

# Tests wait for servers more than they compute: so many packages at a time, so many tests of each.
PARALLEL := -p $(shell echo $$(($$(nproc) + 1))) -parallel $(shell echo $$((2 * $$(nproc))))

.PHONY: test
test: ## test the program on private servers, installing these first if need be; RACE=1 for the race detector
	scripts/provision
	go test $(if $(RACE),-race) -vet=off $(PARALLEL) -timeout 30m ./...

# A program with the race detector waits a second before it ends, unless told otherwise.
export GORACE := atexit_sleep_ms=0

.PHONY: test-scripts
test-scripts: ## test what is beside it: the benchmark, the manifests for Kubernetes, the operator page in Chromium
	scripts/provision --browser
	cd scripts/bench && go test -race -timeout 30m ./...
	cd scripts/manifests && go test -timeout 30m ./...
	cd scripts/browser && go test -timeout 30m ./...

.PHONY: lint
lint: $(GOLANGCI) ## check form and look for mistakes
	@unformatted=$$(gofmt -l .); if [[ -n $$unformatted ]]; then echo "gofmt: $$unformatted"; exit 1; fi
	go vet ./...
	go test -run 'TestWords' ./docs
	$(GOLANGCI) run ./...
	cd scripts/bench && go vet ./... && ../../$(GOLANGCI) run ./...
	cd scripts/manifests && go vet ./... && ../../$(GOLANGCI) run ./...
	cd scripts/browser && go vet ./... && ../../$(GOLANGCI) run ./...

# The installed linter if it is the right one, else one of our own.
$(GOLANGCI): Makefile
	@mkdir -p bin && rm -f $@
	@installed=$$(PATH="$$PATH:$$(go env GOPATH)/bin" command -v golangci-lint || true); \
	if [[ -n $$installed && $$("$$installed" version) == *"version $(GOLANGCI_VERSION) "* ]]; then \
		ln -sf "$$installed" $@; \
	else \
		GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION); \
	fi

.PHONY: servers
servers: build ## a private Redis and PostgreSQL, until Ctrl-C; it says how another terminal finds them
	scripts/provision
	go build -o bin/services ./scripts/services
	@bin/services

.PHONY: demo
demo: build ## drain 100,000 events on private servers and check every sum; PAGE=1 shows the page; REPLAY=file.csv.gz for real ones; SCHEMA=origin for an application's tables
	scripts/provision --unless-given
	go build -o bin/services ./scripts/services
	bin/services -- scripts/demo

NFPM_VERSION := 2.45.0
NFPM := bin/nfpm

.PHONY: dist
dist: $(NFPM) ## build dist/: static binaries, packages, bills of materials, check sums; the same each time
	scripts/dist dist

.PHONY: dist-test
dist-test: build $(NFPM) ## install, upgrade and purge the Debian package, in an overlay of this machine; root
	scripts/provision
	go build -o bin/services ./scripts/services
	scripts/dist-test

.PHONY: systemd-test
systemd-test: $(NFPM) ## try that package and its units under a real systemd, in a container; root, debootstrap, five minutes
	scripts/systemd-test

.PHONY: image
image: ## build the image localhost/aggregator with podman or docker: static binary, CA certificates, time zones; the same each time
	scripts/image

.PHONY: image-test
image-test: ## try the image and the compose file in containers of podman and runc; root
	scripts/provision --containers
	scripts/image-test

$(NFPM): Makefile
	@echo 'dist: building the packager, nfpm $(NFPM_VERSION): once, a minute of processor time' >&2
	GOBIN=$(CURDIR)/bin go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v$(NFPM_VERSION)
	@touch $@

.PHONY: screenshots
screenshots: ## take the pictures of the operator page for docs/
	scripts/provision --browser
	cd scripts/browser && SCREENSHOTS=$(CURDIR)/docs/page go test -count=1 -run '^TestScreenshots$$' .

.PHONY: fuzz
fuzz: ## try to break the event decoder; FUZZTIME=30s
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime $(FUZZTIME) ./internal/events

.PHONY: faults
faults: ## break everything that can break, on private servers, and compare every row
	scripts/provision
	go test -count=1 -tags faults -timeout 3h -parallel 3 -v -skip '^(TestControls.*|TestSoak)$$' ./internal/faults
	go test -count=1 -tags faults -timeout 2h -v -run '^TestAppendOnlyFileCut$$' ./internal/events

.PHONY: faults-controls
faults-controls: ## weaken the daemon, the servers and their disks in known ways: the fault suite must find out each
	scripts/provision
	go test -count=1 -tags faults -timeout 2h -v -run '^TestControls' ./internal/faults

LOSSES ?= 20
.PHONY: power
power: ## take the power from PostgreSQL, Redis and both, for each kind of source so often; LOSSES=20; root
	scripts/provision
	LOSSES=$(LOSSES) go test -count=1 -tags faults -timeout 0 -parallel 3 -v -run '^TestPowerLoss' ./internal/faults

SOAK ?= 10m
.PHONY: soak
soak: ## random faults under continuous load, then a verdict; SOAK=10m
	scripts/provision
	SOAK=$(SOAK) go test -count=1 -tags faults -timeout 0 -v -run '^TestSoak$$' ./internal/faults

# The packages whose Go benchmarks say something of the daemon's own work.
MICRO := ./internal/events ./internal/scores ./internal/history ./internal/apply
BENCH := bin/bench -micro '$(MICRO)' $(if $(REPLAY),-replay '$(REPLAY)')

bin/bench: build
	scripts/bench/provision
	cd scripts/bench && go build -o ../../$@ .

.PHONY: bench
bench: bin/bench ## measure the speed on an idle machine (40 minutes), write docs/benchmarks.md; REPLAY=file.csv.gz
	$(BENCH) -results docs/benchmarks/results.json
	bin/bench -render -results docs/benchmarks/results.json

.PHONY: bench-quick
bench-quick: bin/bench ## a quick look at the speed (a few minutes); ONLY=A,service for some parts
	$(BENCH) -quick $(if $(ONLY),-only '$(ONLY)')

.PHONY: bench-micro
bench-micro: ## Go benchmarks of the daemon's own work, ten times, for benchstat
	scripts/provision
	go test -run '^$$' -bench . -benchmem -count 10 $(MICRO)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
