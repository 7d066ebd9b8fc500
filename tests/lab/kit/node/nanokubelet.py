#!/usr/bin/env python3
"""nanokubelet: a kubelet that runs the containers of the pods bound to its node as plain processes. Run as root.

One network namespace per pod (veth, $POD_NET.x), one mount + pid namespace per container (overlay of the host's /
on a tmpfs), service account tokens from TokenRequest, ConfigMap / Secret / downwardAPI / projected volumes with the
kubelet's ..data symlinks, http and tcp probes, native sidecars, restarts with back-off, Jobs, events, node lease.
There are no images: the image's base name selects what is bind-mounted into the container (IMAGES below, and
$LAB_RUN/images.json: {"name": {"command": [...], "binds": [["/host/file", "/path/in/container"]], "env": {}}}).
An image with no entry and a pod spec with no command gives ErrImagePull / ImagePullBackOff, as a missing image does.
No isolation: a container sees the host's / (writes go to the tmpfs) and may run as the host's root.

Environment: LAB_RUN, LAB_DIR, LAB_CACHE, LAB_NS, NODE (node name), NODE_IP, API (host:port), TOKEN, PROVIDER_ID, ZONE,
CM_REFRESH (seconds between volume refreshes; a kubelet takes about 60), ENVOY_BIN, PILOT_IMAGE_ENV ("K=V K=V"), DNS.
"""

import base64, http.client, json, math, os, re, shutil, signal, socket, ssl, subprocess, threading, time, traceback

E = os.environ
RUN, DIR, BIN, SHARE = E["LAB_RUN"], E["LAB_DIR"], E["LAB_CACHE"] + "/bin", E["LAB_CACHE"] + "/share"
NODE, NODEIP, API, TOKEN = E["NODE"], E["NODE_IP"], E["API"], E["TOKEN"]
PREFIX = E.get("LAB_NS", "meshlab")  # of the pods' network namespaces
POD_NET = E.get("POD_NET", "10.244.0")
CM_REFRESH = float(E.get("CM_REFRESH", "60"))

IMAGES = {  # base name -> default command, files bound into the container, environment of the "image"
    "pilot": {
        "command": ["/usr/local/bin/pilot-discovery"],
        "binds": [[BIN + "/pilot-discovery", "/usr/local/bin/pilot-discovery"]],
        "env": dict(kv.split("=", 1) for kv in E.get("PILOT_IMAGE_ENV", "").split()),
    },
    "proxyv2": {
        "command": ["/usr/local/bin/pilot-agent"],
        "binds": [
            [BIN + "/pilot-agent", "/usr/local/bin/pilot-agent"],
            [E.get("ENVOY_BIN") or BIN + "/envoy", "/usr/local/bin/envoy"],
            [SHARE + "/envoy_bootstrap_tmpl.json", "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json"],
        ],
    },
    "echo": {"command": ["python3", "/app/echo.py"], "binds": [[DIR + "/app/echo.py", "/app/echo.py"]]},
}


class ImagePull(RuntimeError):
    """The image does not exist here."""


def image(name):
    """The IMAGES entry for an image reference (registry, tag and digest are ignored), or {}."""
    base = name.split("@")[0].rsplit("/", 1)[-1].rsplit(":", 1)[0]
    try:
        extra = json.load(open(RUN + "/images.json"))
    except FileNotFoundError:
        extra = {}
    return extra.get(base) or IMAGES.get(base, {})


tl = threading.local()
ctx = ssl._create_unverified_context()
logl = threading.Lock()


def log(*a):
    with logl:
        print(time.strftime("%H:%M:%S"), *a, flush=True)


def api(m, p, body=None, ct="application/json"):
    """One call to the API server over this thread's connection: (status, object)."""
    for i in (0, 1):
        try:
            c = getattr(tl, "c", None)
            if c is None:
                c = tl.c = http.client.HTTPSConnection(API, context=ctx, timeout=20)
            c.request(
                m,
                p,
                body=None if body is None else json.dumps(body),
                headers={"Authorization": "Bearer " + TOKEN, "Content-Type": ct, "Accept": "application/json"},
            )
            r = c.getresponse()
            d = r.read()
            return r.status, (json.loads(d) if d else None)
        except Exception:
            tl.c = None
            if i:
                raise


def sh(*a, check=True):
    r = subprocess.run(a, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and r.returncode:
        raise RuntimeError(f"{a}: {r.stdout}")
    return r.stdout


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


ipl = threading.Lock()
used = {1}


def newip():
    with ipl:
        n = 10
        while n in used:
            n += 1
        used.add(n)
        return n


def freeip(n):
    with ipl:
        used.discard(n)


class Pod:
    def __init__(s, o):
        s.o = o
        m = o["metadata"]
        s.ns, s.name, s.uid = m["namespace"], m["name"], m["uid"]
        s.dir = f"{RUN}/pods/{s.uid}"
        s.n = None
        s.ip = None
        s.procs = {}
        s.cs = {}
        s.ready = {}
        s.started = {}
        s.dying = False
        s.waiting = {}  # container -> (reason, message): it could not be started
        s.retry = {}  # container -> when to try again
        s.policy = o["spec"].get("restartPolicy", "Always")
        s.done = False  # a Job's pod that has ended
        s.cms = []
        s.t0 = now()
        s.inited = False
        s.last = None
        s.probes_on = set()
        threading.Thread(target=s.main, daemon=True).start()

    def path(s):
        return f"/api/v1/namespaces/{s.ns}/pods/{s.name}"

    def net(s):
        """The pod's network namespace: a veth pair, one /32 address, a route on the node (as a CNI plugin would)."""
        s.n = newip()
        s.ip = f"{POD_NET}.{s.n}"
        s.nsn = f"{PREFIX}-{s.n}"
        h = f"h{s.n}"
        subprocess.run(["ip", "link", "del", h], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "del", s.nsn], stderr=subprocess.DEVNULL)
        sh("ip", "netns", "add", s.nsn)
        sh("ip", "link", "add", h, "type", "veth", "peer", "name", "eth0", "netns", s.nsn)
        sh("ip", "link", "set", h, "up")
        mac = json.loads(sh("ip", "-j", "link", "show", h))[0]["address"]
        I = ["ip", "-n", s.nsn]
        for c in (
            ["link", "set", "lo", "up"],
            ["link", "set", "eth0", "up"],
            ["addr", "add", s.ip + "/32", "dev", "eth0"],
            ["route", "add", "169.254.1.1", "dev", "eth0"],
            ["route", "add", "default", "via", "169.254.1.1"],
            ["neigh", "add", "169.254.1.1", "dev", "eth0", "lladdr", mac],
        ):
            sh(*I, *c)
        sh("ip", "route", "replace", s.ip + "/32", "dev", h, "src", NODEIP)

    def fld(s, p, cname=None):
        """The value of a downward API fieldPath."""
        m = s.o["metadata"]
        mm = re.match(r"metadata\.(labels|annotations)\['(.*)'\]", p)
        if mm:
            return m.get(mm[1], {}).get(mm[2], "")
        if p in ("metadata.labels", "metadata.annotations"):
            return "".join(f"{k}={json.dumps(v)}\n" for k, v in sorted(m.get(p.split(".")[1], {}).items()))
        return {
            "metadata.name": s.name,
            "metadata.namespace": s.ns,
            "metadata.uid": s.uid,
            "spec.nodeName": NODE,
            "spec.serviceAccountName": s.o["spec"].get("serviceAccountName", "default"),
            "status.podIP": s.ip,
            "status.podIPs": s.ip,
            "status.hostIP": NODEIP,
        }.get(p, "")

    def res(s, c, r):
        """The value of a resourceFieldRef (limits.cpu, limits.memory ...), by its divisor."""
        kind, what = r["resource"].split(".", 1)
        v = c.get("resources", {}).get(kind, {}).get(what)
        if not v:
            return "2" if what == "cpu" else str(8 << 30)
        mt = re.match(r"([\d.]+)(\w*)", v)
        x = float(mt[1])
        u = {"": 1, "m": 0.001, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 1e3, "M": 1e6, "G": 1e9}[mt[2]]
        d = r.get("divisor", "1")
        dd = {"0": 1, "1": 1, "1m": 0.001, "1Mi": 1 << 20}.get(d, 1)
        return str(math.ceil(x * u / dd))

    def env(s, c):
        """The container's environment; a missing Secret or ConfigMap raises RuntimeError (CreateContainerConfigError)."""
        e = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": s.name,
            "HOME": "/tmp",
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "KUBERNETES_SERVICE_PORT": "443",
        }
        for v in c.get("env", []):
            f = v.get("valueFrom")
            if not f:
                val = re.sub(r"\$\(([\w.]+)\)", lambda m: e.get(m[1], m[0]), v.get("value", ""))
            elif "fieldRef" in f:
                val = s.fld(f["fieldRef"]["fieldPath"])
            elif "resourceFieldRef" in f:
                val = s.res(c, f["resourceFieldRef"])
            elif "configMapKeyRef" in f or "secretKeyRef" in f:
                k = "configmaps" if "configMapKeyRef" in f else "secrets"
                r = f.get("configMapKeyRef") or f["secretKeyRef"]
                st, d = api("GET", f'/api/v1/namespaces/{s.ns}/{k}/{r["name"]}')
                if st != 200 or r["key"] not in d.get("data", {}):
                    if r.get("optional"):
                        continue
                    raise RuntimeError(
                        f'{k[:-1]} "{r["name"]}" not found'
                        if st != 200
                        else f"couldn't find key {r['key']} in {k[:-1]} {s.ns}/{r['name']}"
                    )
                val = d["data"][r["key"]]
                val = base64.b64decode(val).decode() if k == "secrets" else val
            else:
                continue
            e[v["name"]] = val
        return e

    def objfiles(s, kind, name, items, optional):
        """The files of a ConfigMap or Secret volume: {path: bytes}."""
        st, d = api("GET", f"/api/v1/namespaces/{s.ns}/{kind}/{name}")
        if st != 200:
            if optional:
                return {}
            raise RuntimeError(f'MountVolume.SetUp failed: {kind[:-1]} "{name}" not found')
        src = {k: (base64.b64decode(v) if kind == "secrets" else v.encode()) for k, v in (d.get("data") or {}).items()}
        if items:
            return {i["path"]: src[i["key"]] for i in items if i["key"] in src}
        return src

    def files(s, v, cache):
        """The files of a volume that has contents; tokens are asked for once and kept in cache."""
        out = {}

        def one(src):
            if "configMap" in src:
                x = src["configMap"]
                out.update(s.objfiles("configmaps", x["name"], x.get("items"), x.get("optional")))
            elif "secret" in src:
                x = src["secret"]
                out.update(s.objfiles("secrets", x.get("secretName") or x["name"], x.get("items"), x.get("optional")))
            elif "downwardAPI" in src:
                for i in src["downwardAPI"].get("items", []):
                    out[i["path"]] = (s.fld(i["fieldRef"]["fieldPath"]) if "fieldRef" in i else "0").encode()
            elif "serviceAccountToken" in src:
                x = src["serviceAccountToken"]
                k = x["path"]
                if k not in cache:
                    b = {
                        "spec": {
                            "expirationSeconds": max(600, x.get("expirationSeconds", 3600)),
                            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": s.name, "uid": s.uid},
                        }
                    }
                    if x.get("audience"):
                        b["spec"]["audiences"] = [x["audience"]]
                    st, d = api("POST", f'/api/v1/namespaces/{s.ns}/serviceaccounts/{s.fld("spec.serviceAccountName")}/token', b)
                    if st >= 300:
                        raise RuntimeError(f"token: {d}")
                    cache[k] = d["status"]["token"].encode()
                out[k] = cache[k]

        if "projected" in v:
            for x in v["projected"].get("sources", []):
                one(x)
        else:
            one(v)
        return out

    def write(s, d, files):  # the kubelet's ..data symlink dance
        cur = os.path.join(d, "..data")
        old = os.readlink(cur) if os.path.islink(cur) else None
        if old:
            same = {f: open(os.path.join(d, old, f), "rb").read() for f in os.listdir(os.path.join(d, old))}
            if same == files:
                return False
        nd = ".." + str(time.time_ns())
        os.mkdir(os.path.join(d, nd))
        for f, b in files.items():
            open(os.path.join(d, nd, f), "wb").write(b)
        os.symlink(nd, cur + "_tmp")
        os.rename(cur + "_tmp", cur)
        for f in files:
            p = os.path.join(d, f)
            if not os.path.islink(p):
                os.symlink("..data/" + f, p)
        for f in os.listdir(d):
            if not f.startswith("..") and f not in files and os.path.islink(os.path.join(d, f)):
                os.unlink(os.path.join(d, f))
        if old:
            shutil.rmtree(os.path.join(d, old), ignore_errors=True)
        return True

    def volumes(s):
        """Makes the pod's volumes; raises RuntimeError (FailedMount) while something they need is missing."""
        s.vol = {}
        for v in s.o["spec"].get("volumes", []):
            d = f'{s.dir}/vol/{v["name"]}'
            if "hostPath" in v:
                s.vol[v["name"]] = v["hostPath"]["path"]
                continue
            os.makedirs(d, exist_ok=True)
            os.chmod(d, 0o777)
            s.vol[v["name"]] = d
            if "emptyDir" in v:
                continue
            cache = {}
            s.write(d, s.files(v, cache))
            s.cms.append((d, v, cache))

    def refresh(s):
        """Rewrites the volumes whose ConfigMap or Secret changed."""
        for d, v, cache in s.cms:
            try:
                if s.write(d, s.files(v, cache)):
                    log(s.ns, s.name, "volume refreshed", v["name"])
            except Exception as e:
                log(s.name, "refresh", e)

    def start(s, c):
        """Starts container c as a process: netns of the pod, own mount, uts and pid namespaces, overlay of / on a tmpfs."""
        cn = c["name"]
        img = image(c["image"])
        cmd, binds = c.get("command") or img.get("command"), img.get("binds", [])
        if not cmd:
            raise ImagePull(c["image"])
        e = {**img.get("env", {}), **s.env(c)}
        ex = lambda a: re.sub(r"\$\(([\w.]+)\)", lambda m: e.get(m[1], m[0]), a)
        cmd = [ex(a) for a in cmd] + [ex(a) for a in c.get("args", [])]
        sc = {**s.o["spec"].get("securityContext", {}), **c.get("securityContext", {})}
        uid = sc.get("runAsUser", 1337 if img is IMAGES["proxyv2"] else 0)
        gid = sc.get("runAsGroup", uid)
        cd = f"{s.dir}/c/{cn}"
        ov = f"{RUN}/ovl/{s.uid}/{cn}-{time.time_ns()}"
        for x in ("u", "w", "r"):
            os.makedirs(f"{ov}/{x}")
        os.makedirs(cd, exist_ok=True)
        lf = f"{cd}/log"
        if cn in s.procs:
            os.replace(lf, lf + ".prev")  # kubectl logs --previous
        open(lf, "ab").close()
        os.chmod(lf, 0o666)
        q = lambda x: "'" + x.replace("'", "'\\''") + "'"
        R = f"{ov}/r"
        S = [
            "set -e",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={ov}/u,workdir={ov}/w {R}",
            "hostname " + q(s.name),
            f"mount -t proc proc {R}/proc",
            f"mount --rbind /dev {R}/dev",
            f"mount -t tmpfs -o mode=1777 tmpfs {R}/tmp",
            f"mount -t tmpfs -o mode=755 tmpfs {R}/run",
            f"mkdir -p {R}/run/lock {R}/run/secrets {R}/var/run",
            f"mount -t sysfs sysfs {R}/sys || true",
            f"mount --bind {RUN}/hosts {R}/etc/hosts",
            f"mount --bind {RUN}/resolv.conf {R}/etc/resolv.conf",
        ]
        for h, t in binds:
            S += [f"mkdir -p {R}{os.path.dirname(t)}; touch {R}{t}; mount --bind {h} {R}{t}"]
        for vm in c.get("volumeMounts", []):
            t = vm["mountPath"]
            t = "/run" + t[8:] if t.startswith("/var/run") else t
            h = s.vol[vm["name"]]
            S += [f"mkdir -p {R}{t}; mount --bind {h} {R}{t}"]
        S += [
            "cd /",
            f"exec chroot {R} /usr/bin/setpriv --reuid={uid} --regid={gid} --clear-groups /usr/bin/env -i "
            + " ".join(q(f"{k}={v}") for k, v in e.items())
            + ' /bin/sh -c \'cd "$0"; exec "$@"\' '
            + q(c.get("workingDir", "/"))
            + " "
            + " ".join(q(a) for a in cmd),
        ]
        sf = f"{cd}/start.sh"
        open(sf, "w").write("\n".join(S) + "\n")
        f = open(lf, "ab")
        enter = f"nsenter --net=/run/netns/{s.nsn} unshare --mount --uts --pid --fork --kill-child --propagation private".split()
        p = subprocess.Popen(
            enter + ["/bin/bash", sf],
            stdin=subprocess.DEVNULL,
            stdout=f,
            stderr=f,
            start_new_session=True,
        )
        f.close()
        old = s.cs.get(cn, {})
        s.procs[cn] = p
        s.cs[cn] = {"rc": old.get("rc", -1) + 1, "start": now(), "state": "running", "last": old.get("last"), "ov": ov}
        s.ready[cn] = not c.get("readinessProbe")
        s.started[cn] = not c.get("startupProbe")
        json.dump(
            {"pid": p.pid, "root": R, "log": lf, "netns": s.nsn, "env": e, "uid": uid, "gid": gid, "ip": s.ip},
            open(f"{cd}/state.json", "w"),
        )
        log(s.ns, s.name, "started", cn, "pid", p.pid, "uid", uid, " ".join(cmd)[:120])
        if (c.get("readinessProbe") or c.get("startupProbe")) and cn not in s.probes_on:
            s.probes_on.add(cn)
            threading.Thread(target=s.probe, args=(c,), daemon=True).start()

    def try_start(s, c):
        """start(c); a missing image, Secret or ConfigMap leaves the container waiting with the kubelet's own reason."""
        cn = c["name"]
        s.retry[cn] = time.time() + 5
        try:
            s.start(c)
            s.waiting.pop(cn, None)
        except ImagePull:
            first = cn not in s.waiting
            msg = f'Failed to pull image "{c["image"]}": rpc error: code = NotFound desc = failed to resolve reference "{c["image"]}": not found'
            if first:
                s.event(msg)
            s.waiting[cn] = (
                ("ErrImagePull", msg) if first else ("ImagePullBackOff", f'Back-off pulling image "{c["image"]}": {msg}')
            )
        except RuntimeError as e:
            if cn not in s.waiting:
                s.event(f"Error: {e}")
            s.waiting[cn] = ("CreateContainerConfigError", str(e))

    def check(s, c, p):
        """One probe p of container c: httpGet or tcpSocket (others pass)."""
        try:
            g = p.get("httpGet") or p.get("tcpSocket")
            if not g:
                return True
            port = g["port"]
            if isinstance(port, str):
                port = [x["containerPort"] for x in c["ports"] if x.get("name") == port][0]
            if "httpGet" in p:
                k = (
                    http.client.HTTPSConnection(s.ip, port, context=ctx, timeout=p.get("timeoutSeconds", 1))
                    if g.get("scheme") == "HTTPS"
                    else http.client.HTTPConnection(s.ip, port, timeout=p.get("timeoutSeconds", 1))
                )
                k.request("GET", g.get("path", "/"), headers={"User-Agent": "kube-probe/1.37"})
                return 200 <= k.getresponse().status < 400
            socket.create_connection((s.ip, port), 1).close()
            return True
        except Exception:
            return False

    def probe(s, c):
        """Follows the startup and readiness probes of one container, twice a second (periodSeconds is not honoured)."""
        cn = c["name"]
        fails = 0
        while not s.dying:
            time.sleep(0.5)
            if s.cs[cn]["state"] != "running":
                s.ready[cn] = False
                continue
            if not s.started[cn]:
                if s.check(c, c["startupProbe"]):
                    s.started[cn] = True
                else:
                    continue
            if c.get("readinessProbe"):
                ok = s.check(c, c["readinessProbe"])
                if ok:
                    fails = 0
                    s.ready[cn] = True
                else:
                    fails += 1
                    if fails >= c["readinessProbe"].get("failureThreshold", 3):
                        s.ready[cn] = False
            else:
                s.ready[cn] = True

    def reap(s, cn):
        """The exit status of a container that has ended (128 + signal), or None."""
        p = s.procs[cn]
        rc = p.poll()
        if rc is None:
            return None
        st = s.cs[cn]
        if st["state"] == "running":
            st["state"] = "term"
            st["exit"] = rc if rc >= 0 else 128 - rc
            st["end"] = now()
            st["endt"] = time.time()
            log(s.ns, s.name, cn, "exited", st["exit"])
            shutil.rmtree(st["ov"], ignore_errors=True)
        return st["exit"]

    def restarts(s, c):
        """Whether container c, which has ended, is to be started again."""
        if c.get("restartPolicy") == "Always" or s.policy == "Always":
            return True
        return s.policy == "OnFailure" and s.cs[c["name"]]["exit"] != 0

    def status(s, phase="Running"):
        """Writes the pod's status when it changed."""

        def cst(c, init):
            cn = c["name"]
            st = s.cs.get(cn)
            side = c.get("restartPolicy") == "Always"
            b = {
                "name": cn,
                "image": c["image"],
                "imageID": "nanokubelet://" + c["image"],
                "containerID": f"nanokubelet://{s.uid}-{cn}",
                "restartCount": st["rc"] if st else 0,
            }
            if cn in s.waiting:
                reason, msg = s.waiting[cn]
                return {**b, "ready": False, "started": False, "state": {"waiting": {"reason": reason, "message": msg}}}
            if not st:
                reason = "ContainerCreating" if s.inited or not sp.get("initContainers") else "PodInitializing"
                return {**b, "ready": False, "started": False, "state": {"waiting": {"reason": reason}}}
            if st["last"]:
                b["lastState"] = {"terminated": st["last"]}
            if st["state"] == "running":
                return {
                    **b,
                    "ready": bool(s.ready[cn] and s.started[cn]),
                    "started": s.started[cn],
                    "state": {"running": {"startedAt": st["start"]}},
                }
            t = {
                "exitCode": st["exit"],
                "reason": "Completed" if st["exit"] == 0 else "Error",
                "startedAt": st["start"],
                "finishedAt": st["end"],
            }
            if init and not side and (st["exit"] == 0 or st["rc"] == 0):
                return {**b, "ready": st["exit"] == 0, "started": False, "state": {"terminated": t}}
            if s.done or not s.restarts(c):
                return {**b, "ready": False, "started": False, "state": {"terminated": t}}
            msg = f"back-off restarting failed container={cn} pod={s.name}_{s.ns}({s.uid})"
            return {
                **b,
                "ready": False,
                "started": False,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": msg}},
                "lastState": {"terminated": t},
            }

        sp = s.o["spec"]
        ics = [cst(c, True) for c in sp.get("initContainers", [])]
        ccs = [cst(c, False) for c in sp["containers"]]
        side = {c["name"] for c in sp.get("initContainers", []) if c.get("restartPolicy") == "Always"}
        cready = all(x["ready"] for x in ccs) and all(x["ready"] for x in ics if x["name"] in side)
        if not s.inited or not all(c["name"] in s.cs for c in sp["containers"]):
            phase, cready = "Pending", False
        if s.done:
            phase = "Succeeded" if all(s.cs[c["name"]]["exit"] == 0 for c in sp["containers"]) else "Failed"
        cond = lambda t, v, r=None: {
            "type": t,
            "status": "True" if v else "False",
            "lastTransitionTime": now(),
            **({"reason": r} if r else {}),
        }
        b = {
            "phase": phase,
            "hostIP": NODEIP,
            "hostIPs": [{"ip": NODEIP}],
            "startTime": s.t0,
            "containerStatuses": ccs,
            "conditions": [
                cond("PodReadyToStartContainers", True),
                cond("Initialized", s.inited),
                cond("Ready", cready, None if cready else "ContainersNotReady"),
                cond("ContainersReady", cready, None if cready else "ContainersNotReady"),
                cond("PodScheduled", True),
            ],
        }
        if s.ip:
            b["podIP"] = s.ip
            b["podIPs"] = [{"ip": s.ip}]
        if ics:
            b["initContainerStatuses"] = ics
        key = json.dumps({k: v for k, v in b.items() if k != "conditions"}, sort_keys=True) + str(cready)
        if key != s.last:
            st, d = api("PATCH", s.path() + "/status", {"status": b}, "application/merge-patch+json")
            if st < 300:
                s.last = key
            else:
                log("status", s.name, st, d.get("message"))

    def event(s, msg):
        """A Warning event on the pod."""
        api(
            "POST",
            f"/api/v1/namespaces/{s.ns}/events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": s.name + ".", "namespace": s.ns},
                "involvedObject": {"kind": "Pod", "apiVersion": "v1", "name": s.name, "namespace": s.ns, "uid": s.uid},
                "reason": "FailedMount" if "Mount" in msg else "Failed",
                "message": msg,
                "type": "Warning",
                "source": {"component": "kubelet", "host": NODE},
                "firstTimestamp": now(),
                "lastTimestamp": now(),
                "count": 1,
            },
        )

    def init(s):
        """Runs the init containers in order; a native sidecar (restartPolicy: Always) only has to have started."""
        for c in s.o["spec"].get("initContainers", []):
            cn = c["name"]
            while not s.dying:
                s.try_start(c)
                while not s.dying and cn not in s.procs:
                    s.status()
                    time.sleep(0.5)
                    if time.time() >= s.retry[cn]:
                        s.try_start(c)
                if c.get("restartPolicy") == "Always":
                    while not s.dying and not s.started[cn]:
                        if s.reap(cn) is not None:
                            time.sleep(1)
                            s.try_start(c)
                        s.status()
                        time.sleep(0.2)
                    break
                while not s.dying and s.reap(cn) is None:
                    s.status()
                    time.sleep(0.1)
                if s.dying or s.cs[cn]["exit"] == 0:
                    break
                s.status()
                time.sleep(min(20, 2 ** min(s.cs[cn]["rc"] + 1, 5)))
        s.inited = True

    def main(s):
        """The pod's life, in its own thread: network, volumes, init containers, containers with restarts, teardown."""
        try:
            os.makedirs(s.dir, exist_ok=True)
            os.makedirs(RUN + "/idx", exist_ok=True)
            s.net()
            ix = f"{RUN}/idx/{s.ns}_{s.name}"
            if os.path.lexists(ix):
                os.unlink(ix)
            os.symlink(s.dir, ix)
            err = None
            while not s.dying:
                try:
                    s.volumes()
                    break
                except RuntimeError as e:
                    if str(e) != err:
                        err = str(e)
                        log(s.ns, s.name, err)
                        s.event(err)
                    s.cms = []
                    s.status()
                    time.sleep(1)
            s.init()
            containers = s.o["spec"]["containers"]
            sidecars = [c for c in s.o["spec"].get("initContainers", []) if c.get("restartPolicy") == "Always"]
            while not s.dying and not s.done:
                for c in sidecars + containers:
                    cn = c["name"]
                    if cn not in s.procs:
                        if time.time() >= s.retry.get(cn, 0):
                            s.try_start(c)
                    elif s.reap(cn) is not None and s.restarts(c):
                        st = s.cs[cn]
                        if time.time() - st["endt"] > min(20, 2 ** min(st["rc"], 5)):  # a kubelet: 10 s, doubling, up to 300 s
                            st["last"] = {
                                "exitCode": st["exit"],
                                "reason": "Error" if st["exit"] else "Completed",
                                "startedAt": st["start"],
                                "finishedAt": st["end"],
                            }
                            s.try_start(c)
                ended = [c for c in containers if c["name"] in s.procs and s.reap(c["name"]) is not None and not s.restarts(c)]
                if len(ended) == len(containers):
                    s.kill()  # the sidecars of a Job's pod
                    for c in sidecars:
                        s.reap(c["name"])
                    s.done = True
                s.status()
                time.sleep(0.3)
            while not s.dying:
                time.sleep(0.3)
        except Exception:
            log(s.name, traceback.format_exc())
        if s.dying:
            s.teardown()

    def kill(s):
        """TERM to every container's pid 1, KILL after the grace period (at most 5 s)."""
        for cn in s.procs:
            # the init of the container's pid ns is the child of `unshare`
            try:
                kids = open(f"/proc/{s.procs[cn].pid}/task/{s.procs[cn].pid}/children").read().split()
                for k in kids:
                    os.kill(int(k), signal.SIGTERM)
            except Exception:
                pass
        t = time.time() + min(5, s.o["spec"].get("terminationGracePeriodSeconds", 30))
        while time.time() < t and any(p.poll() is None for p in s.procs.values()):
            time.sleep(0.1)
        for p in s.procs.values():
            if p.poll() is None:
                try:
                    os.killpg(p.pid, signal.SIGKILL)
                except Exception:
                    pass
        for p in s.procs.values():
            p.wait()

    def teardown(s, delete=True):
        """Ends the pod: processes, network, files; then removes the API object as a kubelet does."""
        s.kill()
        if s.n:
            subprocess.run(["ip", "link", "del", f"h{s.n}"], stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "netns", "del", s.nsn], stderr=subprocess.DEVNULL)
            freeip(s.n)
        shutil.rmtree(f"{RUN}/ovl/{s.uid}", ignore_errors=True)
        for cn in s.procs:  # keep the logs
            try:
                shutil.copy(f"{s.dir}/c/{cn}/log", f"{RUN}/logs/{s.ns}_{s.name}_{cn}.log")
            except Exception:
                pass
        ix = f"{RUN}/idx/{s.ns}_{s.name}"
        if os.path.lexists(ix) and os.readlink(ix) == s.dir:
            os.unlink(ix)
        shutil.rmtree(s.dir, ignore_errors=True)
        if delete:
            api(
                "DELETE",
                s.path() + "?gracePeriodSeconds=0",
                {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": s.uid}},
            )
        log(s.ns, s.name, "gone")
        pods.pop(s.uid, None)


pods = {}
stop = False


def hosts():
    """Keeps the containers' /etc/hosts: every Service's cluster IP under its three names (there is no cluster DNS)."""
    st, d = api("GET", "/api/v1/services")
    t = "127.0.0.1 localhost\n"
    for x in d["items"]:
        ip = x["spec"].get("clusterIP")
        n, ns = x["metadata"]["name"], x["metadata"]["namespace"]
        if ip and ip != "None":
            t += f"{ip} {n}.{ns}.svc.cluster.local {n}.{ns}.svc {n}.{ns}\n"
    p = RUN + "/hosts"
    if not os.path.exists(p) or open(p).read() != t:
        with open(p, "w") as f:
            f.write(t)  # in place: it is bind-mounted in the containers


def main():
    """Registers the node, then every 0.3 s: heartbeat (every 5 s), /etc/hosts, pods that came or went, volume refresh."""
    global stop
    os.makedirs(RUN + "/logs", exist_ok=True)
    os.makedirs(RUN + "/ovl", exist_ok=True)
    open(RUN + "/resolv.conf", "w").write(f"nameserver {E.get('DNS', '127.0.0.1')}\noptions timeout:1 attempts:1\n")

    def bye(*a):
        global stop
        stop = True

    signal.signal(signal.SIGTERM, bye)
    signal.signal(signal.SIGINT, bye)
    api(
        "POST",
        "/api/v1/nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": NODE,
                "labels": {
                    "kubernetes.io/hostname": NODE,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "topology.kubernetes.io/region": E.get("ZONE", "us-east-1a")[:-1],
                    "topology.kubernetes.io/zone": E.get("ZONE", "us-east-1a"),
                    "node.kubernetes.io/instance-type": "m5.large",
                },
            },
            "spec": {"podCIDR": POD_NET + ".0/24", **({"providerID": E["PROVIDER_ID"]} if E.get("PROVIDER_ID") else {})},
        },
    )
    last = lastcm = 0
    while not stop:
        try:
            if time.time() - last > 5:
                last = time.time()
                cond = [
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "message": "nanokubelet is posting ready status",
                        "lastHeartbeatTime": now(),
                        "lastTransitionTime": now(),
                    }
                ] + [
                    {
                        "type": t,
                        "status": "False",
                        "reason": "ok",
                        "message": "ok",
                        "lastHeartbeatTime": now(),
                        "lastTransitionTime": now(),
                    }
                    for t in ("MemoryPressure", "DiskPressure", "PIDPressure")
                ]
                cap = {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}
                st, d = api(
                    "PATCH",
                    f"/api/v1/nodes/{NODE}/status",
                    {
                        "status": {
                            "conditions": cond,
                            "capacity": cap,
                            "allocatable": cap,
                            "addresses": [{"type": "InternalIP", "address": NODEIP}, {"type": "Hostname", "address": NODE}],
                            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                            "nodeInfo": {
                                "architecture": "amd64",
                                "operatingSystem": "linux",
                                "kubeletVersion": "v1.37.2",
                                "kubeProxyVersion": "v1.37.2",
                                "containerRuntimeVersion": "nano://0.1",
                                "kernelVersion": os.uname().release,
                                "osImage": "Debian",
                                "machineID": "",
                                "systemUUID": "",
                                "bootID": "",
                            },
                        }
                    },
                    "application/strategic-merge-patch+json",
                )
                if st >= 300:
                    log("node status", st, d)
                st, d = api("GET", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}")
                mt = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
                sp = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": mt}
                if st == 404:
                    api(
                        "POST",
                        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
                        {
                            "apiVersion": "coordination.k8s.io/v1",
                            "kind": "Lease",
                            "metadata": {"name": NODE, "namespace": "kube-node-lease"},
                            "spec": sp,
                        },
                    )
                else:
                    api(
                        "PATCH",
                        f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}",
                        {"spec": sp},
                        "application/merge-patch+json",
                    )
            hosts()
            st, d = api("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={NODE}")
            seen = set()
            for o in d["items"]:
                u = o["metadata"]["uid"]
                seen.add(u)
                p = pods.get(u)
                if p is None and o["metadata"].get("deletionTimestamp"):
                    api(
                        "DELETE",
                        f"/api/v1/namespaces/{o['metadata']['namespace']}/pods/{o['metadata']['name']}?gracePeriodSeconds=0",
                    )
                    continue
                if p is None and o["status"].get("phase") not in ("Succeeded", "Failed"):
                    p = pods[u] = Pod(o)
                if p:
                    p.o["metadata"] = o["metadata"]
                    if o["metadata"].get("deletionTimestamp") and not p.dying:
                        p.dying = True
            for u, p in list(pods.items()):
                if u not in seen:
                    p.dying = True
            if time.time() - lastcm > CM_REFRESH or os.path.exists(RUN + "/refresh-now"):
                lastcm = time.time()
                try:
                    os.unlink(RUN + "/refresh-now")
                except FileNotFoundError:
                    pass
                for p in list(pods.values()):
                    if p.inited:
                        p.refresh()
        except Exception:
            log(traceback.format_exc())
        time.sleep(0.3)
    for p in list(pods.values()):
        p.dying = True
    for p in list(pods.values()):
        p.kill()


main()
