# SPDX-License-Identifier: Apache-2.0
# The only commands one must know; "make help" lists them. What needs root says so.

SHELL   := /bin/bash
VERSION := $(shell git describe --tags --always --dirty --abbrev=12 2>/dev/null || echo dev)
# The same sources and the same Go make the same bytes: nothing of the machine, the folder or the time gets in.
GO_ENV   := CGO_ENABLED=0 GOFLAGS= GOWORK=off GOEXPERIMENT= GOFIPS140=off GOAMD64=v1 GOARM64=v8.0
GO_BUILD := go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION)'
STAMP    = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
GOARCH  := $(shell go env GOARCH)
PRIVILEGED := ./bpf/test ./bpf/model ./internal/node/kernel/... ./internal/agent ./internal/agent/cleanup ./internal/doctor ./internal/node/dhcp/clients ./internal/bgp ./internal/netns ./lab ./lab/fault
# Everything else that has tests; those with goroutines of their own run under the race detector.
RACE    := ./internal/southbound ./internal/server/... ./internal/agent ./internal/agent/enrol ./internal/node/dhcp ./internal/apiserver ./internal/identity ./internal/audit ./internal/store ./client
UNIT    := . ./api/... ./bench ./cmd/... ./internal/base/... ./internal/bgp/bfd ./internal/cli/... ./internal/control/... ./internal/node/overlay ./internal/node/port ./internal/node/probe ./internal/node/reconcile ./internal/node/routing ./internal/store/cluster ./internal/trace ./test/linear
DEBIAN  := clang-19 llvm-19 clang-format-19 protobuf-compiler tcpdump iproute2 nftables systemd procps curl iputils-ping traceroute udhcpc isc-dhcp-client dhcpcd-base qemu-system-x86 bird2 frr zsh fish groff
C_FILES := $(wildcard bpf/*.c bpf/lib/*.h bpf/abi/*.h bpf/test/c/*.c bpf/test/c/*.h)
# timed NAME COMMAND: runs a part of the tests and says how long it took.
timed = @start=$$SECONDS; echo "== $(1)"; $(2) && echo "== $(1): $$((SECONDS - start)) s"

.PHONY: help build deb sbom vuln release generate fmt lint test test-form test-supply test-unit test-fuzz test-root scenario operate soak lab demo bench vm fuzz deps clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/weft
	@$(GO_ENV) $(GO_BUILD) -o bin/weft ./cmd/weft

deb: build ## build the Debian package, bin/weft_VERSION_ARCH.deb; ARCH=arm64 for another
	@$(if $(filter-out $(GOARCH),$(ARCH)),$(GO_ENV) GOARCH=$(ARCH) $(GO_BUILD) -o bin/deb/weft ./cmd/weft,install -D bin/weft bin/deb/weft)
	@cd tools && $(GO_ENV) go run -trimpath ./deb -root .. -binary bin/deb/weft -ask bin/weft -arch $(or $(ARCH),$(GOARCH)) -out ../bin -version '$(VERSION)' -time $(STAMP)

sbom: build ## write what the program is made of, bin/weft.cdx.json (CycloneDX)
	@cd tools && $(GO_ENV) go run -trimpath ./sbom -version '$(VERSION)' -time $(STAMP)

vuln: ## look for known vulnerabilities in what weft calls; VULNDB=FOLDER has a copy of the database
	@cd tools && go run ./vuln $(if $(VULNDB),-db '$(abspath $(VULNDB))')

release: ## build both packages, with checksums, in bin/release; what is known to be vulnerable or cannot be built again stops it
	@test -z "$$(git status --porcelain)" || { echo "make release: there are changes that are not committed" >&2; exit 1; }
	$(MAKE) --no-print-directory vuln
	go test -count=1 -timeout 30m ./test/supply -cold
	rm -rf bin/release bin/*.deb && mkdir -p bin/release
	$(MAKE) --no-print-directory deb ARCH=amd64 && $(MAKE) --no-print-directory deb ARCH=arm64
	mv bin/*.deb bin/release && cd bin/release && sha256sum *.deb >SHA256SUMS && cat SHA256SUMS

generate: bin/tools ## make generated files anew: eBPF objects, protobuf, OpenAPI, pages, licences (needs make deps)
	go generate ./internal/node/kernel ./bpf/test
	cd internal/southbound/pb && PATH=$(CURDIR)/bin/tools:$$PATH protoc --go_out=. --go_opt=paths=source_relative \
		--go-grpc_out=. --go-grpc_opt=paths=source_relative southbound.proto
	go test ./internal/apiserver -run TestOpenAPIIsFresh -update
	go test ./internal/cli/explaincmd -run TestCatalogueIsWrittenDown -update
	go test ./cmd/weft -run TestPagesOfCommandsAreFresh -update
	cd tools && go run ./licences -root ..

bin/tools: tools/go.mod tools/go.sum
	cd tools && GOBIN=$(CURDIR)/bin/tools go install tool
	@touch bin/tools

fmt: bin/tools ## format Go and C
	bin/tools/gofumpt -w $$(git ls-files '*.go' | grep -v -e '\.pb\.go$$' -e _bpfel)
	clang-format-19 -i $(C_FILES)

lint: bin/tools ## check form: formatting, vet, linters
	@test -z "$$(bin/tools/gofumpt -l $$(git ls-files '*.go' | grep -v -e '\.pb\.go$$' -e _bpfel) | tee /dev/stderr)"
	clang-format-19 --dry-run -Werror $(C_FILES)
	bin/tools/golangci-lint run --allow-serial-runners ./...
	cd tools && ../bin/tools/golangci-lint run --allow-serial-runners ./...

test: deps test-form test-supply test-unit test-fuzz test-root scenario operate vm test-bench ## all tests, as CI runs them (as root; installs what it needs)
	@echo "== all parts passed"

test-form: bin/tools
	$(call timed,form,$(MAKE) --no-print-directory lint)
	$(call timed,generated files are fresh,$(MAKE) --no-print-directory generate && git diff --exit-code -- '*_bpfel*' internal/southbound/pb docs LICENSES)

test-supply: ## what is shipped: pinned, verified, licensed, listed, and the same bytes when it is built again
	$(call timed,modules are those of go.sum,for m in . tools; do (cd $$m && go mod tidy -diff && go mod verify) || exit 1; done)
	$(call timed,tools,tools/pinned && cd tools && go vet ./... && go test -count=1 ./...)
	$(call timed,built again,go test -count=1 ./test/supply)
	$(call timed,known vulnerabilities,cd tools && go run ./vuln -may-be-away)

test-unit: ## tests that need no root
	$(call timed,unit,go test -shuffle=on $(UNIT))
	$(call timed,unit with race detector,go test -race -shuffle=on $(RACE))

test-fuzz: ## each fuzz target for a moment
	$(call timed,fuzz,FUZZ_CACHE= tools/fuzz 700ms)

test-root: ## tests on this kernel: programs, drivers, namespaces (as root)
	$(call timed,root,REQUIRE_PRIVILEGED=1 go test -shuffle=on $(PRIVILEGED))

scenario: build ## stories on the lab (as root); RUN=name for one
	$(call timed,scenario,REQUIRE_PRIVILEGED=1 WEFT_BIN=$(CURDIR)/bin/weft go test -count=1 $(if $(RUN),-run '/$(RUN)' -v) ./test/scenario)

operate: build ## what docs/operate says, run on three clean machines with systemd (as root)
	$(call timed,operate,REQUIRE_PRIVILEGED=1 WEFT_BIN=$(CURDIR)/bin/weft go test -count=1 ./test/operate)

test-bench: build ## each bench for a moment, by itself: it takes all processors (as root)
	$(call timed,bench,REQUIRE_PRIVILEGED=1 WEFT_BIN=$(CURDIR)/bin/weft go test -count=1 -p 1 ./bench/overlay ./bench/control)

vm: build ## a virtual machine on a tap of the lab (as root)
	$(call timed,vm,REQUIRE_PRIVILEGED=1 WEFT_BIN=$(CURDIR)/bin/weft go test -count=1 ./test/vm)

soak: build ## the stories again and again, 1,000 kills, 200 upgrades, 10 million packets through model and programs, 10 million operations of the API under faults; COUNT=20 (as root)
	go test ./test/linear -v -run TestWrites -operations 10000000 -lasts 3s -timeout 24h
	REQUIRE_PRIVILEGED=1 go test ./bpf/model -packets 10000000 -timeout 2h
	REQUIRE_PRIVILEGED=1 WEFT_BIN=$(CURDIR)/bin/weft go test ./test/scenario -v -run TestAgentIs -kills 1000 -upgrades 200 -timeout 2h
	REQUIRE_PRIVILEGED=1 WEFT_BIN=$(CURDIR)/bin/weft go test -count=$(or $(COUNT),20) -timeout 2h ./test/scenario

lab: build ## bring the lab up (as root)
	bin/weft lab up

demo: ## build, bring a data centre up, show that it works, leave it running (as root)
	@tools/demo

bench: build ## measure packet path and control plane, on a quiet machine; ten minutes (as root)
	bin/weft bench overlay
	bin/weft bench control

fuzz: ## fuzz each decoder of bytes from outside: every Fuzz function there is; TIME=60s
	@tools/fuzz $(or $(TIME),60s)

deps: ## install the Debian packages that tests and generate need (as root)
	@missing=""; for p in $(DEBIAN); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		if [ $$(id -u) != 0 ]; then echo "missing:$$missing; as root: apt-get install$$missing" >&2; exit 1; fi; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean: ## remove what was built
	rm -rf bin
