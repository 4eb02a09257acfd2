# What can be made here: make help. Needs GNU make, sh and Swift; the rest it installs itself.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

VERSION := $(shell cat VERSION)
DIST := dist/kvmtax-$(VERSION)-linux-x86_64
# One set of flags for every release build: another one would build everything again.
RELEASE := swift build -c release --static-swift-stdlib 
PROGRAMS := .build/release

# Libraries to build with; what packing needs; what the tests compare with; the lab's virtual machine.
PACKAGES := libbpf-dev libelf-dev libtraceevent-dev libzstd-dev zlib1g-dev pkg-config git \
	binutils \
	trace-cmd linux-perf e2fsprogs zstd \
	qemu-system-x86 seabios python3

.PHONY: help setup build test dist install lab demo bench clean

help: ## this list
	@echo "kvmtax $(VERSION)"
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## */  make \1\t/p' Makefile | expand -t 20

setup: ## install the Debian packages that are missing (says which)
	@Packaging/setup.sh $(PACKAGES)

build: setup ## release build, with the Swift runtime linked in
	@echo "building kvmtax $(VERSION) (release)"
	@Packaging/quietly.sh $(RELEASE) --product kvmtax
	@Packaging/quietly.sh $(RELEASE) --product kvmtax-tracer

test: setup ## everything: unit, sample and live tests, the tarball, the lab (LAB=smoke: a minute of it)
	@LAB='$(LAB)' ISA='$(ISA)' Packaging/test.sh

dist: build ## pack dist/kvmtax-VERSION-linux-x86_64.tar.gz, which needs no Swift
	@Packaging/dist.sh $(PROGRAMS) $(DIST)

PREFIX ?= /usr/local

install: ## unpack what make dist packed into PREFIX (/usr/local); for root: sudo make install
	@test -f $(DIST).tar.gz || { echo "Run 'make dist' first, as the user who has Swift." >&2; exit 3; }
	@tar -xzf $(DIST).tar.gz -C $(PREFIX) --strip-components=1 --no-same-owner --wildcards '*/bin/*' '*/libexec/*'
	@echo "installed $(PREFIX)/bin/kvmtax"

# ISA=amd or ISA=intel: only these hosts. LAB=smoke: one host, a minute. LAB_OPTIONS: see Tests/Lab/lab.py --help.
ISA ?=
LAB ?=
lab: dist ## the tracer in real KVM hosts under emulation: ISA=amd, ISA=intel, LAB=smoke
	@python3 -B Tests/Lab/lab.py $(DIST).tar.gz $(if $(ISA),--isa $(ISA)) $(if $(filter smoke,$(LAB)),--smoke) $(LAB_OPTIONS)

demo: build ## reports on the bundled traces; as root on a KVM host, also on a guest that runs now
	@Packaging/demo.sh $(PROGRAMS)

bench: setup ## exits/s and ns per exit of each way into a report, beside perf and trace-cmd
	@Packaging/quietly.sh swift build -c release --package-path Benchmarks
	@Benchmarks/.build/release/Bench Samples

clean: ## remove what was built here
	rm -rf .build dist
