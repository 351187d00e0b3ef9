# The launcher image: berth, QEMU for x86 with its firmware (SeaBIOS and OVMF), and nothing else on a slim Debian.
#
#   make image                      or: docker build -t berth:0.1.0 .
#   BASES=local make image          without a registry, see examples/image.sh
#   BASE=debian@sha256:... RUST_BASE=rust@sha256:... make image     on bases of these digests
ARG RUST_BASE=rust:1-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${RUST_BASE} AS build
WORKDIR /src
# As `make build` does.
ENV CARGO_HOME=/usr/local/cargo
ENV RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs --remap-path-prefix=/usr/local/cargo/registry/src='
# Cargo.toml's, for cargo to read from its environment; LTO off, 16 units and level 1 is a quicker build, for tests.
ARG CARGO_PROFILE_RELEASE_LTO=fat
ARG CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
ARG CARGO_PROFILE_RELEASE_OPT_LEVEL=s
# What berth is made of besides its own sources, in a layer by itself: a change of ours does not build it again.
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
RUN mkdir -p src bench/src && echo 'fn main() {}' | tee src/main.rs >bench/src/main.rs && touch src/lib.rs \
    && cargo build --release --locked -p berth --target "$(uname -m)-unknown-linux-gnu" \
    && cargo clean --release -p berth --target "$(uname -m)-unknown-linux-gnu"
COPY . .
RUN cargo build --release --locked -p berth --target "$(uname -m)-unknown-linux-gnu" \
    && cp "target/$(uname -m)-unknown-linux-gnu/release/berth" /berth \
    && /berth --version | grep -q ^berth \
    && rm -rf target

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="berth" \
      org.opencontainers.image.description="Runs a virtual machine in a container or pod and makes it be the pod on the network" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Left out: what QEMU's packages bring for people and for other machines than ours, and firmware without 4 MB variables.
RUN for path in '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/iso-codes/*' '/usr/share/xml/iso-codes/*' \
        /usr/bin/qemu-system-x86_64-microvm /usr/bin/qemu-storage-daemon '/usr/share/OVMF/OVMF_*.secboot.fd' \
        /usr/share/OVMF/OVMF_CODE.fd /usr/share/OVMF/OVMF_VARS.fd /usr/share/OVMF/OVMF_VARS.ms.fd '/usr/share/OVMF/*snakeoil*' \
        '/usr/share/qemu/openbios-*' /usr/share/qemu/skiboot.lid '/usr/share/qemu/*.img' '/usr/share/icons/*'; do \
        echo "path-exclude=$path"; \
    done >/etc/dpkg/dpkg.cfg.d/berth \
    && echo 'path-include=/usr/share/doc/*/copyright' >>/etc/dpkg/dpkg.cfg.d/berth \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends qemu-system-x86 ovmf ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    # Any uid may run the half that needs no capability; uid 0 without CAP_DAC_OVERRIDE is nobody special either.
    && install -d -m 1777 /image /run/berth \
    # Nobody here becomes another by a file: not where no-new-privileges is forgotten, either.
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
COPY --from=build /berth /usr/local/bin/berth
# The seed's chart starts this path; under that name every argument is QEMU's.
RUN ln -s /usr/local/bin/berth /startvm.sh
VOLUME /image
# uid 0, because the kernel gives the capabilities of a container to no other; `berth vm` and all that only looks run as
# any user (docker run --user 65534).
ENTRYPOINT ["/usr/local/bin/berth"]
CMD ["run"]
HEALTHCHECK --interval=30s --timeout=6s --start-period=5m CMD ["/usr/local/bin/berth", "status"]
