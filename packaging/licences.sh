#!/usr/bin/env bash
# Writes to stdout what the crates that are linked into berth are licensed by: a list, and the texts that came with them,
# each once. By Cargo.lock and the sources that cargo has.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

target=$(uname -m)-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
# As in examples/sbom.sh: neither build scripts and macros with what they need, nor what tests need.
cargo tree --locked -p berth -e normal,no-proc-macro --prefix none --target "$target" -f '{p}' |
    awk '{ sub(/^v/, "", $2); print $1 "\t" $2 }' | sort -u >"$work/linked"
cargo metadata --locked --format-version 1 --filter-platform "$target" |
    jq -r '.packages[] | [.name, .version, (.license // "see its text"), (.manifest_path | sub("/Cargo.toml$"; ""))] | @tsv' |
    sort -u >"$work/known"

echo "Crates that are linked into berth, and what they are licensed by:"
echo
mkdir "$work/texts"
while IFS=$'\t' read -r name version; do
    [ "$name" != berth ] || continue
    IFS=$'\t' read -r licence dir < <(awk -F'\t' -v n="$name" -v v="$version" \
        '$1 == n && $2 == v { print $3 "\t" $4 }' "$work/known")
    printf '  %-28s %-22s %s\n' "$name" "$version" "$licence"
    while IFS= read -r -d '' text; do
        sum=$(tr -s '[:space:]' ' ' <"$text" | sha256sum | cut -d' ' -f1)
        [ -e "$work/texts/$sum" ] || cp -- "$text" "$work/texts/$sum"
        printf '%s %s (%s)\n' "$name" "$version" "$(basename "$text")" >>"$work/texts/$sum.of"
    done < <(find "$dir" -maxdepth 1 -type f \
        \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'unlicense*' \) -print0 | sort -z)
done <"$work/linked"

# In the order of the first crate that each belongs to.
for of in "$work"/texts/*.of; do
    printf '%s\t%s\n' "$(head -1 "$of")" "${of%.of}"
done | sort | cut -f2 | while IFS= read -r text; do
    printf '\n%s\nText of: %s\n\n' "$(printf '=%.0s' {1..78})" "$(paste -sd ',' "$text.of" | sed 's/,/, /g' | fold -s -w 76)"
    cat "$text"
done
