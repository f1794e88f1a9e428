# SPDX-License-Identifier: MIT
# Every exported name is in a manual page, and every sb_ name of the documents is exported: sh tests/names.sh LIBRARY
set -eu
exported=$(nm -D --defined-only "$1" | awk '{ print $3 }' | sort -u)
bad=0
for name in $exported; do
    cat ./*.3 | grep -qw "$name" || { echo "check-names: $name is in no manual page"; bad=1; }
done
documents="$(ls ./*.3 README.md ../docs/*.md ../README.md examples/*.c ../examples/embedding/*.c 2>/dev/null || true)" # csrc/ may stand alone
types=$(cat ./*.h | grep -ow 'sb_[a-z0-9_]*' | sort -u)
for name in $(cat $documents | grep -oE '\bsb_[a-z0-9_]+[a-z0-9]\b' | sort -u); do
    printf '%s\n%s\n' "$exported" "$types" | grep -qx "$name" || { echo "check-names: $name is in a document, and nowhere else"; bad=1; }
done
[ $bad = 0 ] && echo "check-names: $(echo "$exported" | wc -l) names, each in a manual page"
exit $bad
