#!/bin/sh
# Prints the path of h2load, the load generator of `make bench`; fetches Debian's package into .build where there is none.
# Nothing is installed into the system and no root is needed: packages are downloaded and unpacked.
set -eu
cd "$(dirname "$0")/.."
die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

if found=$(command -v h2load); then echo "$found"; exit 0; fi
folder=$PWD/.build/h2load
if [ ! -x "$folder/h2load" ]; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null \
        || die "make bench needs h2load; install your system's nghttp2 client package so that it is on PATH"
    rm -rf "$folder" && mkdir -p "$folder/packages"
    # What an installation would add here: the client and those of its libraries that this system lacks.
    names=$(apt-get -s -o Debug::NoLocking=1 --no-install-recommends install nghttp2-client 2>/dev/null \
        | awk "/^Inst /{print \$2}")
    [ -n "$names" ] || die "apt knows no nghttp2-client; install h2load so that it is on PATH"
    # shellcheck disable=SC2086
    (cd "$folder/packages" && apt-get download -qq $names 2>/dev/null) \
        || die "cannot download $names with apt-get; install h2load so that it is on PATH"
    for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder/root"; done
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=%s %s "$@"\n' \
        "$folder/root/usr/lib/x86_64-linux-gnu" "$folder/root/usr/bin/h2load" > "$folder/h2load.new"
    chmod +x "$folder/h2load.new"
    "$folder/h2load.new" --version >/dev/null || die "the h2load that apt-get brought does not run; install it so that it is on PATH"
    mv "$folder/h2load.new" "$folder/h2load"
fi
echo "$folder/h2load"
