# What it takes: Go, and for all of the tests the Debian packages that scripts/need.sh names, which
# `make test` installs when it may.

export CGO_ENABLED = 0

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test check short race fuzz bench lab clean

build:
	go build -trimpath -o bin/tcpcopy ./cmd/tcpcopy

# Everything: static checks, all tests, and those with goroutines again under the race detector.
# SKIPS=fail makes a skipped test a failure.
test:
	@scripts/need.sh
	@$(MAKE) --no-print-directory check
	@go run scripts/gotest.go -timeout 15m $$(go list ./... | grep -vE '$(HOSTS)')
	@go run scripts/gotest.go -p 1 -timeout 20m $$(go list ./... | grep -E '$(HOSTS)')
	@$(MAKE) --no-print-directory race
	@$(MAKE) --no-print-directory fuzz FUZZTIME=5000x

# The packages whose tests are whole hosts under load: one at a time, for they are judged by what arrives when.
HOSTS = internal/(test/e2e|test/badnet|lab)$$

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not gofmt-ed" >&2; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

short:
	go test -short ./...

# The race detector needs cgo, and so a C compiler.
RACE = ./internal/engine/... ./internal/source/... ./internal/way/... ./internal/app/... ./internal/lab/netlab/... \
	./internal/account/... ./internal/sys/...
# Of the lab, runs that have all of its goroutines; the others repeat them with other faults and scenarios.
RACELAB = TestFaithfulCopy|TestRate|TestCopierThatFails|TestInterruptedLab
race:
	@if command -v gcc >/dev/null; then \
		CGO_ENABLED=1 go run scripts/gotest.go -race -short -p 1 -timeout 15m $(RACE) && \
		CGO_ENABLED=1 go run scripts/gotest.go -race -short -timeout 15m -run '$(RACELAB)' ./internal/lab; \
	else echo "make: no gcc: the race detector is left out"; fi

# Each fuzz target for FUZZTIME: a time, or a number of executions (5000x).
FUZZTIME ?= 30s
fuzz:
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

bench:
	go test -run '^$$' -bench . -benchmem ./internal/...

lab: build
	bin/tcpcopy lab

clean:
	rm -rf bin out
