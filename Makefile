# nfguard: `make demo` shows it at work, `make test` proves it.
SHELL    := /bin/bash
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  := -s -w -X github.com/nfguard/nfguard/internal/build.version=$(VERSION)
FUZZTIME ?= 20s
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN     := golang.org/x/vuln/cmd/govulncheck@v1.8.0

export CGO_ENABLED ?= 0

# command:package of what the tests run; `make deps` installs what is missing.
TOOLS := ip:iproute2 journalctl:systemd iptables:iptables nft:nftables sysctl:procps modprobe:kmod nsenter:util-linux gcc:gcc

.PHONY: all build test race lint fuzz netns bench demo packages vm clean deps cover

all: build

build: ## the binary, static, for this machine
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/nfguard ./cmd/nfguard

deps: ## the Debian packages that tests and demo use, only those that are missing
	@PATH=$$PATH:/usr/sbin:/sbin ./test/deps.sh $(TOOLS)

clean:
	rm -rf bin dist
