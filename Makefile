# nfguard. `make demo` shows it at work, `make test` proves it, `make help` lists the rest.
SHELL := /bin/bash
GO    ?= go

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  := -s -w -X github.com/nfguard/nfguard/internal/build.version=$(VERSION)
FUZZTIME ?= 10s
FOR ?= 20m
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# When a package's tests have hung: twenty times what the longest takes. go test then
# prints where. That a machine is slow is no reason to fail.
HANG := 30m

# The binary that is shipped has no C in it; the race detector needs some.
export CGO_ENABLED ?= 0

# command:package of what tests and demo run, and of what the virtual machine needs.
TOOLS      := /usr/lib/cni/host-local:containernetworking-plugins busybox:busybox-static gcc:gcc ip:iproute2 iptables:iptables journalctl:systemd jq:jq modprobe:kmod \
              nft:nftables nsenter:util-linux sysctl:procps systemd-journal-remote:systemd-journal-remote \
              systemd-nspawn:systemd-container
CLUSTER_TOOLS := runc:runc
CONFORMANCE_TOOLS := curl:curl dig:bind9-dnsutils nc.openbsd:netcat-openbsd
PACK_TOOLS := cpio:cpio lintian:lintian man:man-db mmdebstrap:mmdebstrap pgrep:procps rpm:rpm rpmlint:rpmlint \
              shellcheck:shellcheck
RELEASE_TOOLS := apt-ftparchive:apt-utils createrepo_c:createrepo-c gpg:gnupg gpgv:gpgv jq:jq mksquashfs:squashfs-tools rpmsign:rpm xz:xz-utils
RELEASETEST_TOOLS := dnf:dnf qemu-aarch64:qemu-user ansible-galaxy:ansible-core ansible-lint:ansible-lint
RELEASEVM_TOOLS := depmod:kmod qemu-system-aarch64:qemu-system-arm
FLEET_TOOLS := ansible:ansible-core
BPF_TOOLS := clang-14:clang-14 llvm-strip-14:llvm-14
VM_TOOLS := cpio:cpio mke2fs:e2fsprogs mmdebstrap:mmdebstrap qemu-img:qemu-utils qemu-system-x86_64:qemu-system-x86 \
            ansible-playbook:ansible-core ansible-lint:ansible-lint genisoimage:genisoimage ssh:openssh-client

# What tries the whole program, the longest first; and everything else.
HOSTED := ./test/packaging ./test/netns ./test/attack ./test/fleet ./test/demo/...
UNIT := $(shell $(GO) list ./... | grep -v /test/) ./test/markdown ./test/claims/...
FUZZ := internal/core/keep:FuzzLaws internal/core/config:FuzzLoad internal/kernel/rtnl:FuzzParseLink internal/kernel/rtnl:FuzzParseAddress \
        internal/core/source/uevent:FuzzParse internal/core/journal:FuzzEncode internal/kernel/proc:FuzzLocate \
        internal/kernel/xtables:FuzzUses internal/kernel/xtables:FuzzRules internal/kernel/nfnl:FuzzParse \
        internal/kernel/nfnl:FuzzMessage internal/kernel/netfilter:FuzzEndpoints internal/core/boot:FuzzSysctl \
        internal/core/boot:FuzzModprobe internal/core/boot:FuzzModulesDep internal/core/boot:FuzzTuned internal/core/boot:FuzzStarts \
        internal/diag/services:FuzzParseIPTables internal/diag/services:FuzzElement internal/diag/probe:FuzzFrames \
        internal/diag/probe/dns:FuzzRead internal/diag/probe/dns:FuzzResolvConf \
        internal/diag/trace/kernel:FuzzParse internal/diag/history:FuzzExport internal/cli:FuzzPrintable internal/core/helper:FuzzParse internal/core/helper:FuzzDecode internal/core/pause:FuzzParse internal/diag/fleet:FuzzParse internal/diag/trace:FuzzRead

.PHONY: bpf bpfcheck bpfdeps all help build deps vmdeps quick test claims race lint fuzz netns path proxytest cluster clustertest cover bench soak demo packages packdeps packtest release releasedeps verify releasetest fleetdeps fleettest vm clean conformance releasevm readers

all: build

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the static binary for this machine: bin/nfguard
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/nfguard ./cmd/nfguard

deps: ## the Debian packages that tests and demo use, only those that are missing
	@./test/deps.sh $(TOOLS)

vmdeps: ## those of the virtual machine
	@./test/deps.sh $(VM_TOOLS) $(RELEASE_TOOLS)

quick: build ## the unit tests that need no root, in seconds: for while one edits
	$(GO) vet ./...
	$(GO) test -short $(UNIT)

# Three packages at a time: those that try the real program mostly wait for it.
# RUN= picks tests.
test: deps packdeps fleetdeps build cover ## everything that needs no virtual machine and no cluster
	$(WITH_DEBIAN) CGO_ENABLED=1 $(GO) test -race -count=1 -p 3 -timeout $(HANG) $(if $(RUN),-run '$(RUN)') $(HOSTED) $(UNIT)
	$(GO) run ./test/demo -nfguard bin/nfguard

race: ## unit tests; with root also those in namespaces of their own
	CGO_ENABLED=1 $(GO) test -race -timeout $(HANG) $(UNIT)

netns: deps ## the real nfguard against the real kernel, in throw-away namespaces
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout $(HANG) ./test/netns ./test/attack ./test/demo/...

cover: ## guard, keep and config are covered over 90 %
	@for p in core/guard core/keep core/config; do \
		$(GO) test -cover ./internal/$$p | awk -v p=$$p '{ print; for (i = 1; i <= NF; i++) if ($$i == "coverage:") c = $$(i + 1) + 0 } \
			END { if (c <= 90) { print p " is covered by " c " %, less than 90 %"; exit 1 } }' || exit 1; \
	done

# PART= is one package below internal: seconds instead of minutes.
claims: ## docs/claims.md: the sentences about the node, and the cases that hold them
	$(GO) test -count=1 -timeout $(HANG) -run '^TestLedger$$' ./test/claims -update -only '$(PART)'

path: deps ## the files of nfguard that one foreign write passes, as coverage shows them
	NFGUARD_TEST_REQUIRE=root,netns,path $(GO) test -count=1 -v -run '^TestPathOfOneWrite$$' ./test/netns

proxytest: deps ## what is made of kube-proxy's rules, of those that Kubernetes' own writes; to build it takes minutes once
	NFGUARD_TEST_REQUIRE=root,netns,upstream CGO_ENABLED=1 $(GO) test -race -count=1 -timeout $(HANG) -run '^TestUpstream' ./test/netns

# It builds the packages itself. -v, because a passing test has figures to tell, and
# which boots it had to try twice. RUN= picks tests; TestKubelet, which is long and needs
# the programs of make cluster, runs only so. How long a wait inside may last
# is counted in the work of the machine that is waited for: see test/vm/patience.go.
vm: vmdeps ## the packages on a real Debian in a virtual machine, and everything that needs one
	NFGUARD_TEST_REQUIRE=root,vm CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 0 -v $(if $(RUN),-run '$(RUN)',-skip '^TestKubelet$$') ./test/vm

# TREES= says how many trees of each kind.
readers: deps packdeps ## the forecast of the next boot against the programs of four Debians, which are fetched once
	NFGUARD_TEST_REQUIRE=root,netns,readers $(GO) test -count=1 -timeout $(HANG) -v $(if $(RUN),-run '$(RUN)') ./test/readers $(if $(TREES),-trees $(TREES))

# RUN= picks tests, KILLS= says how many runs are killed at a random moment, DOC= names
# the page that is told what was seen.
cluster: deps ## nfguard on a real Kubernetes cluster in namespaces; to build it takes 20 minutes of a processor once
	@./test/deps.sh $(CLUSTER_TOOLS)
	$(GO) run ./test/cluster/build
	$(MAKE) clustertest

clustertest: deps ## the same, where the cluster is built; without it this says so and does nothing
	@./test/deps.sh $(CLUSTER_TOOLS)
	@$(GO) run ./test/cluster/build -have || { echo "cluster: NOT TESTED"; exit 0; }; \
		NFGUARD_TEST_REQUIRE=root,netns,cluster CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 45m -v -skip '^TestConformance$$' $(if $(RUN),-run '$(RUN)') ./test/cluster $(if $(KILLS),-kills $(KILLS)) $(if $(DOC),-doc $(CURDIR)/$(DOC))

# FOCUS= picks some of Kubernetes' tests, by a regular expression on their names.
conformance: deps ## Kubernetes' own tests of Services and DNS, without nfguard and with it; to build it takes 3 minutes more
	@./test/deps.sh $(CLUSTER_TOOLS) $(CONFORMANCE_TOOLS)
	$(GO) run ./test/cluster/build
	$(GO) run ./test/cluster/build -conformance
	NFGUARD_TEST_REQUIRE=root,netns,cluster,conformance $(GO) test -count=1 -timeout 90m -v -run '^TestConformance$$' ./test/cluster $(if $(FOCUS),-focus '$(FOCUS)') $(if $(DOC),-doc $(CURDIR)/$(DOC))

# Another clang, or another patch of this one, compiles other bytes: Debian 12's.
CLANG := Debian clang version 14.0.6

bpfdeps:
	@./test/deps.sh $(BPF_TOOLS)

bpf: bpfdeps ## the kernel's programs, from C, by clang 14
	@v=$$(clang-14 --version | head -n 1); \
		test "$$v" = '$(CLANG)' || { echo "this is $$v; the objects are compiled by $(CLANG), of Debian 12" >&2; exit 1; }
	$(GO) generate ./internal/kernel/hook
	$(GO) generate ./internal/kernel/drops

# It compiles a copy: what is in the tree stays as it is.
bpfcheck: ## whether the committed objects are what the C sources compile to
	@d=$$(mktemp -d) && trap "rm -rf $$d" EXIT && \
		cp -r go.mod go.sum Makefile "$$d" && mkdir -p "$$d/internal/kernel" && cp -r internal/kernel/hook internal/kernel/drops internal/kernel/monotonic "$$d/internal/kernel" && \
		mkdir "$$d/test" && cp test/deps.sh "$$d/test" && { $(MAKE) --no-print-directory -C "$$d" bpf || exit 1; } && \
		for p in hook drops; do diff -r internal/kernel/$$p "$$d/internal/kernel/$$p" || { echo 'make bpf, and commit what it makes' >&2; exit 1; }; done

lint: ## formatting, import rules, mistakes
	$(GO) run $(GOLANGCI) run ./...

fuzz: ## the laws and the parsers, each for FUZZTIME
	@for f in $(FUZZ); do \
		$(GO) test -run '^$$' -fuzz "^$${f##*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "./$${f%%:*}" || exit 1; \
	done

bench: deps build ## some twelve minutes on a quiet machine; writes test/bench/README.md
	$(GO) run ./test/bench -nfguard bin/nfguard -out test/bench/README.md

soak: deps ## the daemon with the race detector, for FOR=20m among all that misbehaves
	CGO_ENABLED=1 $(GO) build -race -o bin/nfguard-race ./cmd/nfguard
	$(GO) run ./test/soak -nfguard bin/nfguard-race -for $(FOR)

demo: deps build ## the failure and its cure, on a throw-away worker
	$(GO) run ./test/demo -nfguard bin/nfguard

packages: ## deb and rpm for amd64 and arm64 in dist; one commit gives the same bytes
	packaging/build.sh dist

packdeps:
	@./test/deps.sh $(PACK_TOOLS)

packtest: packdeps ## the packages and the unit: lint, install, upgrade, remove
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout $(HANG) ./test/packaging

releasedeps:
	@./test/deps.sh $(RELEASE_TOOLS)

DIST ?= dist

# RELEASE_KEY= names the key. The other variables are in the script's head.
release: releasedeps ## what docs/releasing.md lists, signed, in DIST
	packaging/release/release.sh $(DIST)

verify: releasedeps ## whether the release in DIST is signed, and what its commit gives
	packaging/release/verify.sh $(DIST)

# Two releases of the last commit, with keys of its own: minutes, so not in make test.
releasetest: packdeps releasedeps ## releases, their repositories, and what refuses them when they are tampered with
	@./test/deps.sh $(RELEASETEST_TOOLS) $(TOOLS)
	cd packaging/tools && $(GO) vet ./... && $(GO) test -count=1 ./...
	NFGUARD_TEST_REQUIRE=root,netns $(GO) test -count=1 -timeout $(HANG) $(if $(RUN),-run '$(RUN)') -skip '^TestVM' -v ./test/release

# Two releases again, and five machines, one after the other.
releasevm: vmdeps packdeps releasedeps ## the same in virtual machines: apt, sysext, Ansible, cloud-init, an arm64 kernel
	@./test/deps.sh $(RELEASETEST_TOOLS) $(RELEASEVM_TOOLS) $(TOOLS)
	NFGUARD_TEST_REQUIRE=root,netns,vm $(GO) test -count=1 -timeout 0 -run '$(or $(RUN),^TestVM)' -v ./test/release

# Prometheus and its like, unpacked beside the project and not installed.
fleetdeps:
	@./test/deps.sh $(FLEET_TOOLS)
	@./test/fleet/prometheus.sh bin/debian

WITH_DEBIAN := PATH="$(CURDIR)/bin/debian/usr/bin:$$PATH"

fleettest: fleetdeps ## what many hosts tell: node_exporter, Prometheus, its alerts, the dashboard, ansible
	$(WITH_DEBIAN) CGO_ENABLED=1 $(GO) test -race -count=1 -timeout $(HANG) ./test/fleet

clean: ## what these targets built
	rm -rf bin dist
