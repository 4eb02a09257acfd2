#!/bin/sh
# Compiles one BPF source and writes it as a Swift constant: embed.sh CLANG INCLUDE SOURCE OUT.swift
# The constant is base64 in a StaticString: an array literal of this size would take the Swift compiler seconds.
# It is kept out of other modules: the optimizer would copy it into those that use it, and an incremental release build,
# which does not compile them again when only the constant changes, would go on loading the old programs.
set -eu
clang=$1 include=$2 source=$3 out=$4
name=$(basename "$source" .bpf.c)
folder=$(cd "$(dirname "$source")" && pwd)
# from the source's own folder: there clang finds the mapped paths again, whose lines it embeds for the verifier's log
cd "$folder"
"$clang" -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter \
	-idirafter "/usr/include/$(uname -m)-linux-gnu" \
	-ffile-prefix-map="$folder"=. -I "$include" -c "./$name.bpf.c" -o "$out.o"
{
	printf '// Generated from %s.bpf.c.\n\n' "$name"
	printf '/// The BPF object of %s.bpf.c in base64.\n' "$name"
	printf 'public var %sObject: StaticString {\n' "$name"
	printf '  @inline(never) @_semantics("optimize.no.crossmodule") get { "'
	base64 -w0 "$out.o"
	printf '" }\n}\n'
} > "$out"
