#!/usr/bin/env bash
# Builds the Lua guest and takes its snapshot: build.sh [OUTPUT], by default lua.wasm beside this file, with its digest.
#
# The same sources and the same tools give the same bytes, wherever they lie. `toolchain.txt` names the tools of the
# guest that is checked in. Two ways to get tools:
#
# - Debian's packages, unpacked into the folder GUEST_TOOLCHAIN without installing anything (apt has to work):
#     GUEST_TOOLCHAIN=~/.cache/guest-toolchain ./build.sh
# - an ordinary rustup and a wasi-sdk, whose bytes differ from those that are checked in:
#     rustup target add wasm32-wasip1; WASI_SDK=/opt/wasi-sdk ./build.sh
#
# GUEST_TARGET is the folder for intermediate files.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(realpath -m "${1:-$here/lua.wasm}")
mkdir -p "$(dirname "$out")"
target=$(realpath -m "${GUEST_TARGET:-$here/target}")
llvm=22
packages=(rustc-web cargo-web rust-web-src libstd-rust-web-1.96 libstd-rust-web-dev rust-web-llvm
  clang-$llvm lld-$llvm llvm-$llvm llvm-$llvm-linker-tools libllvm$llvm libclang-cpp$llvm libclang1-$llvm
  libclang-common-$llvm-dev libclang-rt-$llvm-dev-wasm32 wasi-libc)
build_std=()

# Compiles the functions that setjmp and longjmp become in WebAssembly; an older C library lacks them.
compile_setjmp() { # DIR
  local dir=$1 part
  mkdir -p "$dir/setjmp"
  for part in setjmp.c longjmp_tag.S; do
    wasi-clang --target=wasm32-wasip1 -O2 -mexception-handling -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false \
      -mllvm -wasm-enable-eh -I "$here/setjmp" -c "$here/setjmp/$part" -o "$dir/setjmp/${part%.*}.o"
  done
  rm -f "$dir/setjmp/libsetjmp.a"
  llvm-ar rcsD "$dir/setjmp/libsetjmp.a" "$dir/setjmp/setjmp.o" "$dir/setjmp/longjmp_tag.o"
}

# Unpacks Debian's packages into DIR and writes commands that find their parts there.
debian() { # DIR
  local dir=$1 root=$1/root part triple
  if [ ! -e "$dir/.unpacked" ]; then
    mkdir -p "$dir/debs" "$root"
    apt-get update -qq
    (cd "$dir/debs" && apt-get download -qq "${packages[@]}")
    for part in "$dir"/debs/*.deb; do dpkg -x "$part" "$root"; done
    (cd "$dir/debs" && printf '%s\n' *.deb) >"$dir/packages.txt"
    rm -rf "$dir/debs"
    touch "$dir/.unpacked"
  fi
  local libs=$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/llvm-$llvm/lib
  mkdir -p "$dir/bin" "$dir/sysroot/include" "$dir/sysroot/lib"
  command_in() { # NAME COMMAND…
    printf '#!/bin/sh\nexport LD_LIBRARY_PATH=%s\nexec %s "$@"\n' "$libs" "${*:2}" >"$dir/bin/$1"
    chmod +x "$dir/bin/$1"
  }
  for triple in wasm32-wasi wasm32-wasip1; do
    ln -sfn "$root/usr/include/wasm32-wasi" "$dir/sysroot/include/$triple"
    ln -sfn "$root/usr/lib/wasm32-wasi" "$dir/sysroot/lib/$triple"
  done
  command_in rustc "$root/usr/bin/rustc"
  command_in wasm-ld "$root/usr/lib/llvm-$llvm/bin/wasm-ld"
  command_in llvm-ar "$root/usr/lib/llvm-$llvm/bin/llvm-ar"
  command_in wasi-clang "$root/usr/lib/llvm-$llvm/bin/clang" "--sysroot=$dir/sysroot" -isystem "$here/setjmp"
  # Only for this one: cargo must not find the rustc that is for the guest.
  PATH=$dir/bin:$PATH compile_setjmp "$dir"
  local self=$root/usr/lib/rustlib/wasm32-wasip1/lib/self-contained
  mkdir -p "$self"
  cp "$root"/usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a,libwasi-emulated-signal.a} \
    "$dir/setjmp/libsetjmp.a" "$self/"
  export RUSTC=$dir/bin/rustc RUSTC_BOOTSTRAP=1
  export CARGO_TARGET_WASM32_WASIP1_LINKER=$dir/bin/wasm-ld
  export CC_wasm32_wasip1=$dir/bin/wasi-clang AR_wasm32_wasip1=$dir/bin/llvm-ar
  build_std=(-Zbuild-std=std,panic_abort)
  maps+=("$root/usr=/toolchain")
}

# Uses the tools of a wasi-sdk, whose C library has all that is needed.
wasi_sdk() { # DIR
  local lib=$1/share/wasi-sysroot/lib/wasm32-wasip1
  export CC_wasm32_wasip1=$1/bin/wasm32-wasip1-clang AR_wasm32_wasip1=$1/bin/llvm-ar
  flags+=("-Lnative=$lib")
  maps+=("$1=/wasi-sdk")
}

cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
maps=("$cargo_home/registry/src=/registry" "$here=/guest-lua" "$target=/target")
# The stack is small, so that it lies close to the data that a step touches.
flags=(-Clink-arg=-zstack-size=262144)
if [ -n "${WASI_SDK:-}" ]; then wasi_sdk "$(realpath "$WASI_SDK")"; else
  debian "$(realpath -m "${GUEST_TOOLCHAIN:?names the folder for the tools, or WASI_SDK that of a wasi-sdk}")"
fi

cflags=(-fno-ident -DLUA_USE_JUMPTABLE=0 '-Dluai_makeseed(L)=0x5eedu')
for map in "${maps[@]}"; do
  flags+=("--remap-path-prefix=$map")
  cflags+=("-ffile-prefix-map=$map")
done
export CFLAGS_wasm32_wasip1="${cflags[*]}"
(
  export RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0
  cd "$here" && cargo build --locked --release --target wasm32-wasip1 "${build_std[@]}"
)
unset RUSTC RUSTC_BOOTSTRAP
built=$target/wasm32-wasip1/release/agentruntime_guest_lua.wasm
cd "$here/../.." && cargo run --locked --release -p agentruntime-sandbox --example snapshot-guest -- "$built" "$out"
(cd "$(dirname "$out")" && sha256sum "$(basename "$out")" >"$out.sha256")
