#!/usr/bin/env bash
# Writes what the launcher image is made of to stdout, as a CycloneDX 1.5 document in JSON: the crates that are compiled
# into berth, by Cargo.lock, the npm packages in its page, by web/dist/manifest, and the Debian packages of the image, by its own dpkg. The image is that of this checkout.
#
#   examples/sbom.sh [NAME:TAG]      berth:VERSION unless said otherwise
#
# The docker that runs has the image: `make image` builds it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
image=${1:-berth:$version}

die() {
    printf 'sbom: %s\n' "$*" >&2
    exit 1
}

for tool in docker jq cargo; do
    command -v "$tool" >/dev/null || die "no $tool; run examples/install.sh image"
done
docker info >/dev/null 2>&1 || die "no docker daemon answers: start it (systemctl start docker, or dockerd &)"
docker image inspect "$image" >/dev/null 2>&1 || die "no image $image here: build it with make image"
id=$(docker image inspect -f '{{.Id}}' "$image")
machine=$(docker run --rm --network none --entrypoint uname "$image" -m)
release=$(docker run --rm --network none --entrypoint cat "$image" /etc/os-release | sed -n 's/^VERSION_ID="\(.*\)"/\1/p')

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
# shellcheck disable=SC2016 # the ${...} are dpkg-query's
docker run --rm --network none --entrypoint dpkg-query "$image" \
    -W -f '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n' >"$work/packages"
cargo metadata --locked --format-version 1 --filter-platform "$machine-unknown-linux-gnu" >"$work/metadata"
# What is linked: neither build scripts and macros with what they need, nor what tests need.
cargo tree --locked -p berth -e normal,no-proc-macro --prefix none --target "$machine-unknown-linux-gnu" \
    -f '{p}' | awk '{ sub(/^v/, "", $2); print $1 "@" $2 }' | sort -u >"$work/linked"
# Name, version and the SHA-256 of each crate's archive.
awk -F'"' '
    /^\[\[package\]\]/ { name = version = "" }
    /^name = / { name = $2 }
    /^version = / { version = $2 }
    /^checksum = / { print name "@" version "\t" $2 }' Cargo.lock >"$work/checksums"

jq -n --arg image "$image" --arg version "$version" --arg id "$id" --arg release "$release" \
    --rawfile packages "$work/packages" --rawfile linked "$work/linked" --rawfile checksums "$work/checksums" \
    --rawfile page web/dist/manifest \
    --slurpfile metadata "$work/metadata" '
    def lines: split("\n") | map(select(. != ""));
    # As package URLs have it: a colon stays.
    def purl: @uri | gsub("%3A"; ":");
    ($linked | lines) as $linked
    | ($checksums | lines | map(split("\t") | {(.[0]): .[1]}) | add) as $checksums
    | [$metadata[0].packages[]
        | "\(.name)@\(.version)" as $key
        | select($key != "berth@\($version)" and ($linked | index($key)))
        | {
            type: "library", "bom-ref": "pkg:cargo/\(.name)@\(.version | purl)",
            name, version, purl: "pkg:cargo/\(.name)@\(.version | purl)"
          }
          # Older crates have a slash for OR.
          + if .license then {licenses: [{expression: (.license | gsub("/"; " OR ") | gsub("  +"; " "))}]} else {} end
          + if $checksums[$key] then {hashes: [{alg: "SHA-256", content: $checksums[$key]}]} else {} end
      ] as $crates
    | [$page | lines[] | select(startswith("package ")) | split(" ")
        | "pkg:npm/\(.[1] | sub("^@"; "%40"))@\(.[2])" as $purl
        | {
            type: "library", "bom-ref": $purl, name: .[1], version: .[2], purl: $purl,
            licenses: [{expression: .[3]}]
          }
      ] as $npm
    | [$packages | lines[] | split("\t")
        | "pkg:deb/debian/\(.[0] | purl)@\(.[1] | purl)?arch=\(.[2])&distro=debian-\($release)" as $purl
        | {
            type: "library", "bom-ref": $purl, name: .[0], version: .[1], purl: $purl,
            properties: [{name: "berth:debian:source", value: "\(.[3]) \(.[4])"}]
          }
      ] as $debian
    | {
        bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
        metadata: {
            component: {
                type: "container", "bom-ref": "image", name: ($image | split(":")[0]), version: $version,
                hashes: [{alg: "SHA-256", content: ($id | ltrimstr("sha256:"))}]
            }
        },
        components: ([{
            type: "application", "bom-ref": "pkg:cargo/berth@\($version)", name: "berth", version: $version,
            purl: "pkg:cargo/berth@\($version)", licenses: [{expression: "Apache-2.0"}]
        }] + $crates + $npm + $debian),
        dependencies: [
            {ref: "image", dependsOn: (["pkg:cargo/berth@\($version)"] + [$debian[]["bom-ref"]])},
            {ref: "pkg:cargo/berth@\($version)", dependsOn: [($crates + $npm)[]["bom-ref"]]}
        ]
    }'
