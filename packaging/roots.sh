# SPDX-License-Identifier: MIT
# Read by packaging/packages, pythons, wheels, rpm/build and container/build, in the source tree: roots of Debian releases,
# made once and kept in build/roots. Needs root, debootstrap and a Debian mirror (MIRROR=).
top=$PWD
roots=$top/build/roots
: "${MIRROR:=http://deb.debian.org/debian}"
mkdir -p "$roots"

base() { # SUITE NAME PACKAGES: a root with these, made once for the same packages
    suite=$1 root=$roots/$2
    [ "$(cat "$root/.made" 2>/dev/null)" = "$3" ] && return
    rm -rf "$root" "$root.log"
    script=/usr/share/debootstrap/scripts/$suite
    [ -e "$script" ] || script=${script%/*}/sid # of a release that is younger than this debootstrap
    logged "$root.log" debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$MIRROR" "$script"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99snapshot" # a mirror may be one of an earlier day
    [ -e "$root/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    printf 'deb %s %s main\ndeb-src %s %s main\n' "$MIRROR" "$suite" "$MIRROR" "$suite" >"$root/etc/apt/sources.list"
    logged "$root.log" inside "$root" env DEBIAN_FRONTEND=noninteractive sh -c \
        "apt-get update -q && apt-get install -y -q --no-install-recommends $3"
    echo "$3" >"$root/.made"
}

logged() { # LOG COMMAND...: what it says is for the log, whose end is shown if it fails
    log=$1
    shift
    "$@" >>"$log" 2>&1 && return
    tail -5 "$log" >&2
    echo "roots: not made; the mirror is $MIRROR (MIRROR= names another one); all that was said is in $log" >&2
    exit 1
}

inside() { # ROOT COMMAND...: with this host's network; mounts and processes of its own, which end with the command
    root=$1
    shift
    cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || :
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --pid --fork --kill-child sh -ec 'cd "$1"; shift; mount --rbind . .; cd "$PWD"
        mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys; mount --move . /; exec chroot . "$@"' - "$root" "$@"
}

sources() { # DIRECTORY: the source tree, without what was made from it
    rm -rf "$1" && mkdir -p "$1"
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z | xargs -0 cp --parents -t "$1"
    else
        tar -c --exclude=./build --exclude=./.git --exclude='./.venv*' . | tar -x -C "$1"
    fi
}

debugging_information() { # ROOT NAME: each library of sockd in it has some in /usr/lib/debug, and no RUNPATH of its own
    for library in $(find "$1/usr/lib/sockd" -name '*.so'); do
        readelf -d "$library" | grep -E 'RPATH|RUNPATH' && echo "$2: $library has a path of its own" >&2 && exit 1
        id=$(readelf -n "$library" | sed -n 's/.*Build ID: //p')
        found=$1/usr/lib/debug/.build-id/$(echo "$id" | cut -c 1-2)/$(echo "$id" | cut -c 3-).debug
        readelf -S "$found" | grep -q debug_info ||
            { echo "$2: $library: its debugging information is not packaged" >&2 && exit 1; }
        echo "$2: $(basename "$library"): debugging information packaged, no RUNPATH"
    done
}
