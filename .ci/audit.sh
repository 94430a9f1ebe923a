#!/usr/bin/env bash
# Small things that no compiler looks at.
set -eu

failed=0
fail() { echo "audit: $1" >&2; failed=1; }
# The tree, without what tools wrote (expected outputs, snapshots).
rust() { git ls-files -co --exclude-standard -- '*.rs'; }

# Nothing is left for later in silence.
if found=$(rust | xargs grep -nE '\b(todo|unimplemented)!|\b(FIXME|XXX)\b'); then
    fail "left for later:"$'\n'"$found"
fi

# Fields of logs are numbers and sentences, not Rust's debug format, which no reader of JSON logs can use.
logs() { git ls-files -co --exclude-standard -- '*/src/*.rs' 'examples/*.rs' | grep -vE '/tests?(/|\.rs$)|/sim/|/fuzzing'; }
if found=$(logs | xargs grep -nE '(^|[(,=])[[:space:]]*\?[a-z_]|%format!\(".*\{[a-z_]*:#?\?'); then
    fail "a debug format in a log:"$'\n'"$found"
fi

# A file that grows past this has a second subject in it. What a macro writes is nobody's to split.
while IFS= read -r file; do
    case "$file" in */snapshots/*) continue ;; esac
    lines=$(wc -l <"$file")
    [ "$lines" -le 700 ] || fail "$file has $lines lines; split it where its second subject begins (700 at most)"
done < <(rust)

# Links between the repository's own documents lead somewhere.
while IFS= read -r page; do
    folder=$(dirname "$page")
    while IFS= read -r target; do
        [ -e "$folder/$target" ] || fail "$page links to '$target', which is not there"
    done < <(grep -oE '\]\([^)#: ]+' "$page" | cut -c3-)
done < <(git ls-files -co --exclude-standard -- '*.md')

# What the README says of the toolchain is what is pinned.
pinned=$(sed -n 's/^channel = "\([0-9]*\.[0-9]*\).*"/\1/p' rust-toolchain.toml)
grep -q "^rust-version = \"$pinned\"" Cargo.toml || fail "rust-version in Cargo.toml is not the pinned $pinned"
grep -q "Rust $pinned" README.md || fail "README.md does not name the pinned Rust $pinned"

# Shell scripts parse.
while IFS= read -r script; do
    bash -n "$script" || fail "$script does not parse"
done < <(git ls-files -co --exclude-standard -- '*.sh' .ci/run)

[ "$failed" -eq 0 ] || exit 1
echo "audit: $(rust | wc -l) Rust files and the documents are in order"
