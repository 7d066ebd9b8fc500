#!/bin/bash
# down.sh [--orphans]: stops what up.sh started (by pid and start time), removes the network namespace and the mounts.
# The logs stay in $LAB_RUN/log until the next up.sh.
#   --orphans   also whatever still lives in $LAB_NS and in its pods' namespaces, or was started in the run folder and is not known to it:
#               for a run folder that was deleted or full while a lab was running
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
strays() { # kills what up.sh started in this run folder without a trace in pids/
  local p
  for p in /proc/[0-9]*; do
    case $(readlink "$p/cwd" 2>/dev/null) in "$LAB_RUN" | "$LAB_RUN (deleted)") ;; *) continue ;; esac
    grep -qz "^LAB_RUN=$LAB_RUN$" "$p/environ" 2>/dev/null && kill -KILL "${p##*/}" 2>/dev/null && echo "ended stray process ${p##*/}"
  done
}
[ "${1:-}" != --orphans ] || trap strays EXIT
if [ "${1:-}" = --orphans ] && [ ! -e "$LAB_RUN/netns" ]; then
  for f in /run/netns/"$LAB_NS" /run/netns/"$LAB_NS"-*; do
    [ -e "$f" ] || continue
    # shellcheck disable=SC2046 # a list of pids
    kill -KILL $(ip netns pids "${f##*/}") 2>/dev/null
    ip netns del "${f##*/}" && echo "removed ${f##*/}, left by a lab without a run folder"
  done
  rm -rf "/etc/netns/$LAB_NS"; rmdir /etc/netns 2>/dev/null
fi
[ -d "$LAB_RUN/pids" ] || { echo "no lab in $LAB_RUN"; exit 0; }
stop nanokubelet 20            # first: it stops the pods' processes
# containers that outlived a killed nanokubelet: their `unshare` has the run folder in its command line
for f in "$LAB_RUN"/pods/*/c/*/state.json; do
  [ -e "$f" ] || continue
  pid=$(grep -o '"pid": [0-9]*' "$f" | grep -o '[0-9]*')
  if [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q "$LAB_RUN/pods/"; then kill -KILL -- "-$pid"; fi
done
for n in lbc alb kwok nkserver kube-proxy dns scheduler kcm apiserver eksauth etcd awsproxy moto; do stop $n 1 & done   # their state is thrown away: no graceful end needed
wait
for f in "$LAB_RUN"/pids/*; do [ -e "$f" ] && stop "${f##*/}"; done
if [ -e "$LAB_RUN/netns" ]; then
  ns=$(cat "$LAB_RUN/netns")
  for f in /run/netns/"$ns"-*; do [ -e "$f" ] && { umount "$f" 2>/dev/null; rm -f "$f"; }; done   # the pods' namespaces
  ip netns del "$ns" 2>/dev/null
  rm -rf "/etc/netns/$ns"; rmdir /etc/netns 2>/dev/null
  for _ in $(seq 20); do umount "$LAB_RUN/ovl" 2>/dev/null; mountpoint -q "$LAB_RUN/ovl" || break; sleep .2; done
  mountpoint -q "$LAB_RUN/ovl" && { echo "$LAB_RUN/ovl is still mounted" >&2; exit 1; }
fi
[ ! -d "$LAB_RUN/logs" ] || mv "$LAB_RUN/logs" "$LAB_RUN/log/pods"
find "$LAB_RUN" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
echo "down; logs in $LAB_RUN/log"
