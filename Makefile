# Everything a checkout needs. Debian 12 or later, root for what makes network namespaces.
#
#   make run         build, and show a guest being a pod, until Ctrl-C; ONCE=1: check it and stop
#   make build       the static binary
#   make test        what CI runs: formatting, lints, every test, those of the full guest too
#   make test-full   the tests of the full guest alone
#   make e2e         those of the image and the chart: containers, Helm's engine, podman, containerd
#   make test-package those of the Debian package, in a systemd of their own; some minutes, and no part of `make test` yet
#   make image       the launcher image; BASES=local: without a registry
#   make man         man pages and completions for bash, zsh and fish: target/man
#   make deb         a Debian package of it: target/berth_*.deb; BERTH=path: of a program that is there
#   make sbom        what is in the launcher image, as CycloneDX: berth.cdx.json where cargo builds
#   make bench       measure everything into bench/results; BENCH=NAME: that alone
#   make reliability orderly ends, kills, full volumes: again and again with real guests; ROUNDS=50, BERTH=path
#   make web         the page in the browser, from web/src and npm's packages into web/dist, which is committed
#   make web-check   builds it twice: is what is committed what comes of its sources?
#   make guest       the guest images of the demo and the tests, in the cache
#   make clean       what cargo built; the cached images stay

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:

TRIPLE := $(shell uname -m)-unknown-linux-gnu
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run build test test-full test-package e2e image man deb sbom bench reliability web web-check guest clean checks

run: packages-run build
	examples/demo.sh

# --target keeps crt-static away from the build scripts and macros, which are not static. The
# relocations of a program that is loaded anywhere are packed: they are a good part of its size otherwise. Where cargo
# keeps the sources is nobody's business, and is written 500 times.
STATIC := -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
	--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src=

build:
	@echo "==> static release build: $(TARGET_DIR)/$(TRIPLE)/release/berth"
	RUSTFLAGS='$(STATIC)' cargo build --release --locked --target $(TRIPLE)

test: checks
	@$(call tests,)

test-full: packages-full guest
	@$(call tests,full::)

# One after the other: it builds packages, and starts a systemd.
test-package: packages-full packages-deb
	cargo test --locked --features package --test guest -- --test-threads=1 package::

e2e: packages-full guest
	@$(call tests,chart:: containers:: cri:: split::)

image: $(if $(filter local,$(BASES)),packages-image)
	@BASES=$(BASES) examples/image.sh

man:
	cargo run --locked --example man -- $(TARGET_DIR)/man
	@echo "==> $(TARGET_DIR)/man: man1, completions"

deb: packages-deb $(if $(BERTH),,build) man
	@package=$$(packaging/deb.sh $(or $(BERTH),$(TARGET_DIR)/$(TRIPLE)/release/berth) $(TARGET_DIR)/man $(TARGET_DIR)) && echo "==> $$package"

sbom: image
	@mkdir -p $(TARGET_DIR)
	@examples/sbom.sh >$(TARGET_DIR)/berth.cdx.json.part
	@mv $(TARGET_DIR)/berth.cdx.json.part $(TARGET_DIR)/berth.cdx.json
	@echo "==> $(TARGET_DIR)/berth.cdx.json"

checks: packages-full guest
	@echo "==> scripts"
	shellcheck examples/*.sh examples/guest/*.sh packaging/*.sh packaging/deb/p*[mt] tests/listing/trixie.sh tests/guest/*/*.sh .ci/run
	@echo "==> formatting"
	cargo fmt --all --check
	@echo "==> lints"
	cargo clippy --workspace --all-targets --features e2e --locked -- -D warnings

# $(1): which modules of tests/guest; everything when empty. One more at a time than there are processors: about half of
# what tests take they wait, for leases to run out, for guests, for the kernel to free a namespace.
define tests
echo "==> tests"; \
if cargo nextest --version >/dev/null 2>&1; then \
	cargo nextest run $(if $(1),--test guest,--workspace) --locked --features e2e \
		--test-threads $$(($$(nproc) + 1)) -- $(1); \
else \
	echo "cargo-nextest is not installed: cargo test, one test at a time (several guests at once time out)"; \
	cargo test $(if $(1),--test guest,--workspace) --locked --features e2e -- --test-threads=1 $(1); \
fi
endef

# Both at once: they share what they depend on, and link side by side.
bench: packages-bench
	@echo "==> static release build, and the benches"
	RUSTFLAGS='$(STATIC)' cargo build --release --locked --target $(TRIPLE) -p berth -p berth-bench
	$(TARGET_DIR)/$(TRIPLE)/release/berth-bench $(or $(BENCH),all) $(if $(filter nft,$(BENCH)),,--berth $(TARGET_DIR)/$(TRIPLE)/release/berth)

# One at a time: each guest wants a processor.
reliability: packages-full guest
	ROUNDS=$(or $(ROUNDS),50) cargo test --locked --features e2e --test guest -- --nocapture --test-threads=1 reliability::

# No other goal needs npm: cargo takes web/dist as it is committed. No script of a package is run.
web: packages-web
	@echo "==> the page: web/dist"
	cd web && npm ci --ignore-scripts --no-audit --no-fund
	cd web && node build.mjs
	cd web && node --test test/parts.test.mjs

web-check: packages-web
	@committed=$$(mktemp -d); trap 'rm -rf -- "$$committed"' EXIT; cp -r web/dist/. "$$committed"; \
	for round in 1 2; do \
		$(MAKE) --no-print-directory web; \
		diff -r web/dist "$$committed" || { echo "web/dist is not what its sources make: commit what make web made" >&2; exit 1; }; \
	done
	@echo "==> web/dist is what its sources make"

guest: packages-full
	@for script in examples/guest/*.sh; do echo "==> guest image: $$script"; "$$script"; done

packages-%:
	@echo "==> Debian packages for: $*"
	@examples/install.sh $*

clean:
	cargo clean
