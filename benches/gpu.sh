#!/usr/bin/env bash
# Everything worth measuring on an NVIDIA GPU, in one command of less than 8 minutes. Build first:
#
#     cargo build --release && cargo test --no-run
#     pip install torch grpcio-tools              # for the comparison
#     benches/gpu.sh [FOLDER]                     # logs and tables go there [default: target/gpu]
#
# 1. the tests of the CUDA backend with CORTADO_REQUIRE_GPU=1: a missing GPU is a failure
# 2. compute-sanitizer (memcheck, racecheck, initcheck) on a training run, where it is installed
# 3. each net of benches/peers/nets beside PyTorch on the same device: a table with ratios
#
# Each part has a limit of its own and runs whatever became of the others; the exit status is 0 if all went well.
# CORTADO names another binary, CORTADO_SUITE another test program, DEVICE another GPU than 0.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

out=${1:-target/gpu}
device=${DEVICE:-0}
export CORTADO=${CORTADO:-$PWD/target/release/cortado}
newest_suite() {
    # Test programs have a hash in their names; the newest one is of the last build.
    find target -path '*/deps/suite-*' -type f -executable -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 1 | cut -d ' ' -f 2-
}
suite=${CORTADO_SUITE:-$(newest_suite)}
mkdir -p "$out" || exit 1
failed=0
part() { # NAME LIMIT COMMAND...: runs it with a limit in seconds, its output in $out/NAME.log
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    printf '== %s\n' "$name"
    if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then
        printf '   well, %s s\n' $((SECONDS - start))
    else
        printf '   FAILED (%s) after %s s: %s\n' $? $((SECONDS - start)) "$out/$name.log"
        tail -n 15 "$out/$name.log"
        failed=1
    fi
}

if [ ! -x "$CORTADO" ]; then
    printf '%s is not there: cargo build --release\n' "$CORTADO"
    exit 1
fi
{
    date -u +%F
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    "$CORTADO" device_query -gpu "$device" 2>&1
} | tee "$out/device.txt"

if [ -n "$suite" ]; then
    # Not what needs no GPU: NVRTC for other architectures, the stand-in's own faults.
    part tests 120 env CORTADO_REQUIRE_GPU=1 "$suite" cuda --skip nvrtc --skip faults
else
    printf 'no test program: cargo test --no-run\n'
    failed=1
fi

if command -v compute-sanitizer >/dev/null; then
    net=benches/peers/nets/lenet.prototxt
    # Two iterations of every kernel of LeNet, one after the other; kernels from the cache, so that only they are watched.
    "$CORTADO" time -model "$net" -iterations 1 -gpu "$device" >/dev/null 2>&1
    for tool in memcheck racecheck initcheck; do
        part "$tool" 35 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$CORTADO" time -model "$net" -iterations 1 --graphs off -gpu "$device"
    done
else
    printf '== compute-sanitizer is not installed: left out\n'
fi

part peers 235 python3 benches/peers/gpu_table.py --device "cuda:$device" --seconds 180 --json "$out/peers.json"
sed -n '/^On /,$p' "$out/peers.log"
exit $failed
