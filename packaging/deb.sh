#!/usr/bin/env bash
# Makes a Debian package of a berth that is built, and says its path: the program, `berth serve` as a systemd unit, man
# pages, and completions for bash, zsh and fish.
#
#   packaging/deb.sh BERTH MAN [DIR]      the program, what `make man` has written, and where to (target)
#
#   SOURCE_DATE_EPOCH=SECONDS   the time of all files in it; the last commit's, unless said. The same sources, program and time
#                               are the same package, octet by octet.
#   DEBFULLNAME, DEBEMAIL       who made it, as for dpkg-buildpackage; unless said, whom git knows (user.name, user.email)
set -euo pipefail

# The answer is the one line on stdout; whatever the tools say goes to stderr.
exec 3>&1 1>&2

die() {
    printf 'deb: %s\n' "$*" >&2
    exit 1
}

[ $# -ge 2 ] || die "usage: $0 BERTH MAN [DIR]"
binary=$(realpath -e -- "$1") man=$(realpath -e -- "$2")
mkdir -p -- "${3:-target}"
out=$(realpath -e -- "${3:-target}")
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
for tool in dpkg-deb cargo jq objcopy gzip; do
    command -v "$tool" >/dev/null || die "no $tool; run examples/install.sh deb"
done

export LC_ALL=C TZ=UTC0
umask 022
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || true)}
[ -n "$SOURCE_DATE_EPOCH" ] || die "no git history here to take the time from: set SOURCE_DATE_EPOCH"
# Of an SPDX version 1.0.0-rc.1 Debian's is before 1.0.0.
upstream=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
version=${upstream/-/\~}-1
architecture=$(dpkg --print-architecture)
name=${DEBFULLNAME:-$(git config user.name || true)} email=${DEBEMAIL:-$(git config user.email || true)}
if [ -z "$name" ] || [ -z "$email" ]; then
    die "who makes the package? Set DEBFULLNAME and DEBEMAIL"
fi
maintainer="$name <$email>"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
root=$work/root
doc=$root/usr/share/doc/berth

# $1: the file in the package; $2: its source, packed as Debian packs documents.
packed() {
    mkdir -p "$(dirname "$root/$1")"
    gzip -9n <"$2" >"$root/$1"
}

install -D -m 755 "$binary" "$root/usr/bin/berth"
objcopy --strip-all --remove-section=.comment --remove-section=.note "$root/usr/bin/berth"
for page in "$man"/man1/*.1; do
    packed "usr/share/man/man1/$(basename "$page").gz" "$page"
done
install -D -m 644 "$man/completions/berth.bash" "$root/usr/share/bash-completion/completions/berth"
install -D -m 644 "$man/completions/_berth" "$root/usr/share/zsh/vendor-completions/_berth"
install -D -m 644 "$man/completions/berth.fish" "$root/usr/share/fish/vendor_completions.d/berth.fish"

install -D -m 644 packaging/berth-serve.default "$root/etc/default/berth-serve"
units=$root/lib/systemd/system
install -D -m 644 packaging/berth-serve.service "$units/berth-serve.service"
# The same for an interface of many, each with settings and leases of its own.
sed -e '1s/.*/# DHCP and DNS on the interface that it is named after, set by \/etc\/default\/berth-serve-INTERFACE./' \
    -e 's/^Description=.*/Description=DHCP and DNS on %I (berth serve)/' \
    -e 's/^EnvironmentFile=.*/Environment=BERTH_SERVE_INTERFACE=%I BERTH_SERVE_LEASE_FILE=\/var\/lib\/berth-serve\/%i\/leases\nEnvironmentFile=-\/etc\/default\/berth-serve-%i/' \
    -e 's/^# Leases: .*/# Leases: \/var\/lib\/berth-serve\/INTERFACE\/leases./' \
    -e 's/^StateDirectory=.*/StateDirectory=berth-serve\/%i/' \
    packaging/berth-serve.service >"$units/berth-serve@.service"

packed usr/share/doc/berth/changelog.gz CHANGELOG.md
cat >"$work/changelog" <<END
berth ($version) unstable; urgency=medium

  * What is new in $upstream is in changelog.gz.

 -- $maintainer  $(date -R -d "@$SOURCE_DATE_EPOCH")
END
packed usr/share/doc/berth/changelog.Debian.gz "$work/changelog"
packaging/licences.sh >"$work/crates"
packed usr/share/doc/berth/crates.txt.gz "$work/crates"
gzip -d <web/dist/licences.txt.gz >"$work/page"
packed usr/share/doc/berth/page.txt.gz "$work/page"
install -m 644 packaging/deb/copyright "$doc/copyright"
install -D -m 644 packaging/deb/lintian-overrides "$root/usr/share/lintian/overrides/berth"

install -d "$root/DEBIAN"
install -m 755 packaging/deb/{postinst,prerm,postrm} "$root/DEBIAN"
echo /etc/default/berth-serve >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: berth
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
Section: net
Priority: optional
Suggests: qemu-system-x86
Description: virtual machines that are their pod, and DHCP and DNS for one link
$(sed 's/^/ /; s/^ $/ ./' packaging/deb/description)
END
(cd "$root" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root"/DEBIAN/{md5sums,conffiles,control}
find "$root" -depth -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

package=$out/berth_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package.part" >/dev/null
mv -- "$package.part" "$package"
printf '%s\n' "$package" >&3
