# Requires Go. The tests also require the Debian packages that scripts/need.sh names; make test and
# make soak install them if they run as root.

export CGO_ENABLED = 0

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test observe vendor-web soak soak-e2e long check race fuzz bench microbench lab clean

build:
	go build -trimpath -o bin/tcpcopy ./cmd/tcpcopy

# What a change must pass: static checks, and the tests of all packages. Those of RACED run under
# the race detector, those of LONG and HOSTS with -short. It takes less than nine minutes on two
# processors; soak runs what it leaves out. SKIPS=fail makes a skipped test a failure, except under
# the race detector. As check has run go vet, go test does not; and no test reads the debugging
# information, which takes two thirds of the linker's time.
TEST = go run scripts/gotest.go -vet=off -ldflags=-w
packages = $$(go list ./... | grep -E $(1))
test:
	@scripts/need.sh
	@$(MAKE) --no-print-directory check
	@$(TEST) -timeout 15m $$(go list ./... | grep -vE '$(RACED)|$(LONG)|$(HOSTS)') \
		$(call packages,'$(TWICE)')
	@$(MAKE) --no-print-directory race
	@$(TEST) -short $(call packages,'$(LONG)')
	@$(TEST) -short -p 1 -parallel $(BESIDE) -timeout 30m $(call packages,'$(HOSTS)')
	@$(MAKE) --no-print-directory observe SHORT=-short

# What is shipped for monitoring, against Prometheus' engine and a browser: a module of its own. The
# page's scripts are held against their types, and the page against axe-core. SHORT=-short leaves the
# copy between virtual hosts out.
observe:
	@tools=$$(scripts/web-tools.sh) || [ "$$SKIPS" != fail ] || exit 1; \
	if [ -n "$$tools" ]; then \
		node "$$tools/typescript/bin/tsc" -p internal/account/dashboard/jsconfig.json || exit 1; \
		export TCPCOPY_AXE="$$tools/axe-core/axe.min.js"; \
	fi; \
	cd internal/test/observe && go vet ./... && go test -ldflags=-w $(SHORT) ./...

# Fetches what the dashboard has from npm again, and checks its hash.
vendor-web:
	scripts/vendor-web.sh

# What make test leaves out: long, and every case of the end-to-end tests (full matrices, all ways,
# 60,000 connections), which takes twenty minutes on two processors. soak-e2e is the latter alone, and
# with PART=K/N the K-th of N parts of it.
soak: long soak-e2e
soak-e2e:
	@scripts/need.sh
	@run=$$(scripts/part.sh ./internal/test/e2e $(PART)) && \
		$(TEST) -p 1 -parallel $(BESIDE) -timeout 30m -run "$$run" $(call packages,'$(E2E)')

# What make test leaves out, but for the end-to-end tests: every case of the tests of LONG and of the
# other HOSTS, those of RACED whole and without the race detector, and the lab with it. It takes
# eight minutes.
long:
	@scripts/need.sh
	@$(TEST) -timeout 15m $(call packages,'$(RACED)|$(LONG)')
	@$(TEST) -p 1 -parallel $(BESIDE) -timeout 15m $(call packages,'$(OTHERHOSTS)')
	@if command -v gcc >/dev/null; then \
		SKIPS= $(RACE) -p 1 ./internal/lab/netlab && \
		SKIPS= $(RACE) -run '$(RACELAB)' ./internal/lab; \
	fi

# The packages whose tests are whole hosts under load. They run one at a time, because what they
# measure depends on what else the machine does. Of the tests that mostly wait, BESIDE run beside
# each other.
E2E = internal/test/e2e$$
OTHERHOSTS = internal/(test/badnet|lab)$$
HOSTS = $(E2E)|$(OTHERHOSTS)
BESIDE = 8

# The packages whose tests are long simulations.
LONG = internal/(test/sim|account/verdict)$$

# The packages that goroutines share, but for the lab's. The others are pure, or are called by one
# goroutine at a time.
RACED = internal/(engine|app|sys|doctor/collect|$\
	source/(afpacket|agents?|file|locals|mirror)|account/(status|fleet|dashboard|web)|$\
	way/(link|link/key|socket|intercepts|ways|raw|raw/send|raw/intercept|tunnel|tunnel/.*))$$
# Those of RACED with tests that say nothing in a program with cgo, or in one that is slow.
TWICE = internal/(sys|source/afpacket)$$

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not gofmt-ed" >&2; exit 1; }
	go vet ./...
	cd internal/test/grpcpeer && go vet ./...
	go test ./internal/test/archtest
	go run $(STATICCHECK) ./...

# The race detector needs cgo, and so a C compiler; without one the tests run as the others do. With
# -short they choose smaller numbers, since it makes programs five times slower.
RACE = CGO_ENABLED=1 $(TEST) -race -short
# The lab's tests that run all of its goroutines. The others repeat them with other faults and
# scenarios.
RACELAB = TestFaithfulCopy|TestRate|TestCopierThatFails|TestInterruptedLab
race:
	@if command -v gcc >/dev/null; then SKIPS= $(RACE) -timeout 15m $(call packages,'$(RACED)'); \
	else echo "make: no gcc: the tests are not run under the race detector"; \
		$(TEST) -timeout 15m $(call packages,'$(RACED)'); fi

# Each fuzz target for FUZZTIME: a time, or a number of executions (5000x).
FUZZTIME ?= 30s
fuzz:
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

# What a request costs, and how late it is, by each way. OLD=COMMIT compares with that commit's
# program, in turns.
bench:
	go run scripts/bench.go $(if $(OLD),-old $(OLD))

microbench:
	go test -run '^$$' -bench . -benchmem ./internal/...

lab: build
	bin/tcpcopy lab

clean:
	rm -rf bin out
