#!/bin/sh
# Prints the path of the program $1; where this system has none, fetches Debian's package $2 into .build.
# Nothing is installed into the system and no root is needed: packages are downloaded and unpacked.
set -eu
cd "$(dirname "$0")/.."
program=$1 package=$2
die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

if found=$(command -v "$program"); then echo "$found"; exit 0; fi
folder=$PWD/.build/debian/$package
if [ ! -d "$folder/root" ]; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null \
        || die "there is no $program; install your system's package with it so that it is on PATH"
    rm -rf "$folder" && mkdir -p "$folder/packages"
    # What an installation would add here: the package itself, its data and those of its libraries that this system lacks.
    names=$(apt-get -s -o Debug::NoLocking=1 --no-install-recommends install "$package" 2>/dev/null \
        | awk -v package="$package" '/^Inst / && ($2 == package || $2 ~ /-(common|data)$/ || ($2 ~ /^lib/ && $2 !~ /^libjs-/)) {print $2}')
    [ -n "$names" ] || die "apt knows no $package; install $program so that it is on PATH"
    # shellcheck disable=SC2086
    (cd "$folder/packages" && apt-get download -qq $names 2>/dev/null) \
        || die "cannot download $names with apt-get; install $program so that it is on PATH"
    for file in "$folder"/packages/*.deb; do dpkg -x "$file" "$folder/unpacked"; done
    rm -rf "$folder/packages"
    mv "$folder/unpacked" "$folder/root"
fi
if [ ! -x "$folder/$program" ]; then
    binary=$folder/root/usr/bin/$program
    # A script there starts the program where an installation would have put it; here it lies in a folder of its own.
    if [ "$(head -c 2 "$binary" | tr -d '\0')" = '#!' ]; then
        binary=$(find "$folder/root/usr/lib" -type f -name "$program" -perm -u+x | head -n 1)
        [ -n "$binary" ] || die "the $package that apt-get brought has no $program that runs from here; install it so that it is on PATH"
    fi
    # Libraries may lie in folders of their own, which the system's linker would find by a list.
    libraries=$(find "$folder/root/usr/lib/x86_64-linux-gnu" -name 'lib*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=%s %s "$@"\n' "$libraries" "$binary" > "$folder/$program.new"
    chmod +x "$folder/$program.new"
    "$folder/$program.new" --version >/dev/null 2>&1 \
        || die "the $program that apt-get brought does not run; install it so that it is on PATH"
    mv "$folder/$program.new" "$folder/$program"
fi
echo "$folder/$program"
