# Requires Go. The tests also require the Debian packages that scripts/need.sh names; make test
# installs them if it runs as root.

export CGO_ENABLED = 0

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test observe vendor-web soak check race fuzz bench microbench lab clean

build:
	go build -trimpath -o bin/tcpcopy ./cmd/tcpcopy

# All that a change must pass: static checks, all tests, and those with goroutines again under the race detector.
# SKIPS=fail makes a skipped test a failure. The packages of LONG run with -short; SHORT= runs them whole, as soak does.
SHORT ?= -short
test:
	@scripts/need.sh
	@$(MAKE) --no-print-directory check
	@go run scripts/gotest.go -timeout 15m $$(go list ./... | grep -vE '$(LONG)')
	@go run scripts/gotest.go $(SHORT) -p 1 -parallel 4 -timeout 30m $$(go list ./... | grep -E '$(LONG)')
	@$(MAKE) --no-print-directory observe
	@$(MAKE) --no-print-directory race
	@$(MAKE) --no-print-directory fuzz FUZZTIME=5000x

# What is shipped for monitoring, against Prometheus' engine and a browser: a module of its own.
# The page's scripts are held against their types, and the page against axe-core.
observe:
	@tools=$$(scripts/web-tools.sh) || [ "$$SKIPS" != fail ] || exit 1; \
	if [ -n "$$tools" ]; then \
		node "$$tools/typescript/bin/tsc" -p internal/account/dashboard/jsconfig.json || exit 1; \
		export TCPCOPY_AXE="$$tools/axe-core/axe.min.js"; \
	fi; \
	cd internal/test/observe && go vet ./... && go test ./...

# Fetches what the dashboard has from npm again, and checks its hash.
vendor-web:
	scripts/vendor-web.sh

# Every case of the tests that take long: full matrices, all ways, 60,000 connections.
soak:
	@scripts/need.sh
	@go run scripts/gotest.go -p 1 -timeout 30m $$(go list ./... | grep -E '$(LONG)')

# The packages whose tests are whole hosts under load, and the simulations. They run one at a time, because what they
# measure depends on what else the machine does. In make test four of those that mostly wait run beside each other.
LONG = internal/(test/e2e|test/badnet|test/sim|lab|account/verdict)$$

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not gofmt-ed" >&2; exit 1; }
	go vet ./...
	go test ./internal/test/archtest
	go run $(STATICCHECK) ./...

# The race detector needs cgo, and so a C compiler. What -short skips has run without it before.
RACE = ./internal/engine/... ./internal/source/... ./internal/way/... ./internal/app/... ./internal/lab/netlab/... \
	./internal/account/... ./internal/sys/...
# The lab's tests that run all of its goroutines. The others repeat them with other faults and scenarios.
RACELAB = TestFaithfulCopy|TestRate|TestCopierThatFails|TestInterruptedLab
race:
	@if command -v gcc >/dev/null; then \
		CGO_ENABLED=1 SKIPS= go run scripts/gotest.go -race -short -p 1 -timeout 15m $(RACE) && \
		CGO_ENABLED=1 SKIPS= go run scripts/gotest.go -race -short -timeout 15m -run '$(RACELAB)' ./internal/lab; \
	else echo "make: no gcc: the tests are not run under the race detector"; fi

# Each fuzz target for FUZZTIME: a time, or a number of executions (5000x).
FUZZTIME ?= 30s
fuzz:
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

# What a request costs, and how late it is, by each way. OLD=COMMIT compares with that commit's program, in turns.
bench:
	go run scripts/bench.go $(if $(OLD),-old $(OLD))

microbench:
	go test -run '^$$' -bench . -benchmem ./internal/...

lab: build
	bin/tcpcopy lab

clean:
	rm -rf bin out
