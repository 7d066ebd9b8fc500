//! The lab from Rust: what it needs, building it, one running lab at a time, and nothing left behind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use meshstep::base::mutex::lock;
use meshstep::base::wait::{self, Patience, Poll};
use tempfile::TempDir;

use crate::lanes::LANE_VARIABLE;

/// The labs that run at once. The namespaces and run folders of `cargo lab` end so; a lab that somebody brought up by hand keeps its own.
pub(crate) const LANES: [&str; 3] = ["1", "2", "3"];

/// The lane of this process: several scenarios have one each (lanes.rs).
fn lane() -> &'static str {
    static LANE: OnceLock<&str> = OnceLock::new();
    LANE.get_or_init(|| LANES.into_iter().find(|lane| std::env::var(LANE_VARIABLE).is_ok_and(|named| named == *lane)).unwrap_or(LANES[0]))
}

pub(crate) fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/kit")
}

/// The built parts, kept between runs and outside the checkout.
pub(crate) fn cache() -> PathBuf {
    let base = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    std::env::var_os("LAB_CACHE").map(PathBuf::from).or_else(|| base().map(|base| base.join("meshstep-lab"))).expect("HOME or LAB_CACHE is set")
}

fn run_folder(lane: &str) -> PathBuf {
    cache().join(format!("run-cargo-lab-{lane}"))
}

fn namespace(lane: &str) -> String {
    format!("meshsteplab{lane}")
}

/// Everything that is missing here, each with what to do. Empty: the lab can run.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return vec![format!("Linux on x86_64: the lab's parts are built for it; this is {} on {}", std::env::consts::OS, std::env::consts::ARCH)];
    }
    let works =
        |script: &str| Command::new("bash").args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !works("[ \"$(id -u)\" = 0 ]") {
        missing.push("root: the lab makes network namespaces and mounts; run `sudo -E env PATH=\"$PATH\" cargo lab`".to_owned());
    } else {
        if !works("unshare --net --mount --pid --fork true") {
            missing.push("network, mount and pid namespaces: in a container, run it privileged".to_owned());
        }
        // In a mount namespace of its own, so that nothing is left of it.
        let overlay = "mount -t tmpfs tmpfs /tmp && cd /tmp && mkdir u w r && mount -t overlay overlay -o lowerdir=/,upperdir=u,workdir=w r";
        if !works(&format!("unshare --mount bash -c '{overlay}'")) {
            missing.push("overlay mounts on a tmpfs: the kernel module `overlay`, and in a container the privilege to mount".to_owned());
        }
        // Before the first build nft itself may be missing; it is installed then.
        if works("command -v nft") && !works("unshare --net nft add table inet meshstep") {
            missing.push("nftables: the kernel module `nf_tables`, for kube-proxy's rules and istio-init's".to_owned());
        }
    }
    for (tool, package) in
        [("python3", "python3 with venv and pip"), ("apt-get", "a Debian or Ubuntu system: the lab installs its small tools from there")]
    {
        if !works(&format!("command -v {tool}")) {
            missing.push(package.to_owned());
        }
    }
    let stamps = cache().join("stamps");
    let built = ["etcd", "kwok", "kubernetes", "istio", "aws-load-balancer-controller", "nkserver"].iter().all(|name| stamps.join(name).exists());
    if !built && !works("command -v go") {
        missing.push("Go 1.26 or newer, to build the parts (once)".to_owned());
    }
    missing
}

/// Builds what is not there yet; says what it does. The first time takes about 20 minutes, later a second.
pub(crate) fn build() -> Result<(), String> {
    let status = bound(kit().join("build.sh")).status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("tests/lab/kit/build.sh ended with {status}")) }
}

/// Held while `cargo lab` runs: a second one waits, so that neither takes the other's lab for a leftover.
pub(crate) fn alone() -> File {
    let lock = File::create("/run/meshstep-cargo-lab.lock").expect("root may write there");
    if lock.try_lock().is_err() {
        println!("another cargo lab is running: waiting for its end");
        lock.lock().expect("a lock");
    }
    lock
}

/// The up.sh that is running.
static UP: Mutex<Option<u32>> = Mutex::new(None);
static ENDING: AtomicBool = AtomicBool::new(false);

/// Removes what a killed run left in this lane: processes, namespaces, mounts.
fn clean() -> Result<(), String> {
    clean_lane(lane())
}

/// The same in every lane.
pub(crate) fn clean_all() -> Result<(), String> {
    LANES.into_iter().try_for_each(clean_lane)
}

fn clean_lane(lane: &str) -> Result<(), String> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE);
    let mut down = bound(kit().join("down.sh"));
    let output = environment_of(lane, &mut down).arg("--orphans").output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(format!("down.sh: {}", String::from_utf8_lossy(&output.stderr))) }
}

/// Takes the lab down when this process is asked to end.
pub(crate) fn clean_on_signals() {
    on_signals(|| {
        println!("interrupted: taking the lab down");
        ENDING.store(true, Ordering::SeqCst);
        let up = *lock(&UP);
        if let Some(up) = up {
            _ = Command::new("kill").args(["-KILL", &up.to_string()]).status();
        }
        if let Err(error) = clean() {
            println!("{error}");
        }
    });
}

/// What is done before this process ends when it is asked to.
pub(crate) fn on_signals(last: fn()) {
    runtime().spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate()).expect("SIGTERM"), signal(SignalKind::interrupt()).expect("SIGINT"));
        let code = tokio::select! { _ = term.recv() => 143, _ = int.recv() => 130 };
        last();
        #[expect(clippy::exit, reason = "a scenario is in the middle of something; nothing else ends the process")]
        std::process::exit(code);
    });
}

pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"))
}

/// A program that ends when this process is killed, whatever happens here.
pub(crate) fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn kit_command(script: &str) -> Command {
    let mut command = bound(kit().join(script));
    kit_environment(&mut command);
    command
}

/// Whose lab the kit's scripts speak of.
pub(crate) fn kit_environment(command: &mut Command) -> &mut Command {
    environment_of(lane(), command)
}

fn environment_of<'a>(lane: &str, command: &'a mut Command) -> &'a mut Command {
    let ports = (25_000 + 2_000 * lane.parse::<u32>().unwrap_or_default()).to_string();
    command.env("LAB_CACHE", cache()).env("LAB_RUN", run_folder(lane)).env("LAB_NS", namespace(lane)).env("LAB_PORT_BASE", ports).stdin(Stdio::null())
}

/// Waits until `look` gives a value; its error is the reason why not yet.
#[track_caller]
pub(crate) fn eventually<T>(limit: Duration, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    runtime().block_on(until(limit, what, look)).unwrap_or_else(|error| panic!("{error}"))
}

/// stop, start, freeze or thaw one part of the running lab (part.sh).
pub(crate) fn part(what: &str, name: &str) {
    let output = kit_command("part.sh").args([what, name]).output().expect("part.sh starts");
    assert!(output.status.success(), "part.sh {what} {name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `eventually` for those who wait themselves, and that may fail.
pub(crate) async fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let patience = Patience::new(limit, Duration::from_millis(200));
    let asked = || {
        std::future::ready(Ok(match look() {
            Ok(value) => Poll::Ready(value),
            Err(reason) => Poll::NotYet(reason),
        }))
    };
    wait::until(patience, |_| (), std::future::pending::<()>, asked).await.map_err(|error| format!("{what}: {error:?}"))
}

/// Runs up.sh so that a signal can end it before it takes down what it has started.
fn up(command: &mut Command) -> Output {
    let child = loop {
        let mut running = lock(&UP);
        if !ENDING.load(Ordering::SeqCst) {
            let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("up.sh starts");
            *running = Some(child.id());
            break child;
        }
        drop(running);
        std::thread::park();
    };
    let output = child.wait_with_output().expect("up.sh ends");
    *lock(&UP) = None;
    output
}

/// Which parts run (README.md, Profiles).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The control plane alone, on loopback.
    Api,
    /// The control plane, AWS and the load balancer controller, on loopback; nothing runs in pods.
    Alb,
    /// Everything: pods run, traffic flows.
    Full,
}

/// A running lab. Dropped, it is taken down.
pub(crate) struct Lab {
    run: PathBuf,
    env: BTreeMap<String, String>,
    in_namespace: bool,
    home: TempDir,
}

impl Lab {
    /// Brings a lab up; `settings` are up.sh's, e.g. `("CM_REFRESH", "600")`.
    pub(crate) fn up(profile: Profile, settings: &[(&str, &str)]) -> Self {
        clean().unwrap_or_else(|error| panic!("{error}"));
        let name = match profile {
            Profile::Api => "api",
            Profile::Alb => "alb",
            Profile::Full => "full",
        };
        let output = up(kit_command("up.sh").args(["--profile", name]).envs(settings.iter().copied()));
        let run = run_folder(lane());
        // From here on a panic takes it down again.
        let mut lab = Self { in_namespace: run.join("netns").exists(), run, env: BTreeMap::new(), home: tempfile::tempdir().expect("a folder") };
        assert!(output.status.success(), "up.sh: {}", String::from_utf8_lossy(&output.stderr));
        lab.env = exports(&std::fs::read_to_string(lab.run.join("lab.env")).expect("up.sh wrote lab.env"));
        let bin = cache().join("bin");
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        lab.env.insert("PATH".to_owned(), path);
        lab.env.insert("HOME".to_owned(), lab.home.path().display().to_string());
        lab
    }

    /// Where the lab keeps its state and logs.
    pub(crate) fn run_folder(&self) -> &Path {
        &self.run
    }

    /// A value of lab.env, e.g. `LAB_CLUSTER`.
    pub(crate) fn env(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("lab.env has no {name}"))
    }

    /// A command where the lab's addresses and names are, with the lab's environment and nothing of this process.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = if self.in_namespace {
            let mut command = bound("ip");
            command.args(["netns", "exec", &namespace(lane())]).arg(program);
            command
        } else {
            bound(program)
        };
        command.env_clear().envs(&self.env).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command line of words to its good end: its stdout.
    #[track_caller]
    pub(crate) fn exec(&self, words: &[&str]) -> String {
        self.try_exec(words).unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
    }

    /// Runs a command line of words: its stdout, or everything it wrote when it failed.
    pub(crate) fn try_exec(&self, words: &[&str]) -> Result<String, String> {
        let (program, args) = words.split_first().expect("a command");
        let output = self.command(program).args(args).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(format!("{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))) }
    }

    /// The tool under test, as a CI job calls it. No kubeconfig: it has to find the cluster itself.
    pub(crate) fn meshstep(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_meshstep"));
        command.env_remove("KUBECONFIG").envs(env.iter().copied()).args(args);
        Run::of(command)
    }

    /// Makes image references known to the nodes: by the name between the last `/` and the tag, each runs the sample application on a port.
    pub(crate) fn images(&self, ports: &[(&str, u16)]) {
        let echo = kit().join("app/echo.py");
        let images: serde_json::Map<String, serde_json::Value> = ports
            .iter()
            .map(|(name, port)| {
                let image =
                    serde_json::json!({"command": ["python3", "/app/echo.py"], "binds": [[echo, "/app/echo.py"]], "env": {"PORT": port.to_string()}});
                ((*name).to_owned(), image)
            })
            .collect();
        std::fs::write(self.run.join("images.json"), serde_json::Value::Object(images).to_string()).expect("the run folder can be written");
    }

    /// One more image, as nanokubelet knows them (faults.md).
    pub(crate) fn image(&self, name: &str, image: serde_json::Value) {
        let file = self.run.join("images.json");
        let mut images: serde_json::Value =
            std::fs::read_to_string(&file).map_or_else(|_| serde_json::json!({}), |text| serde_json::from_str(&text).expect("JSON"));
        images[name] = image;
        std::fs::write(file, images.to_string()).expect("the run folder can be written");
    }

    /// Runs Python with boto3's client `aws(service)` at hand, past the faults; what it leaves in `out`.
    #[track_caller]
    pub(crate) fn aws(&self, script: &str) -> serde_json::Value {
        let head = format!("import boto3, json\ndef aws(service): return boto3.client(service, endpoint_url={:?})\n", self.env("LAB_MOTO_URL"));
        let python = cache().join("venv/bin/python");
        let text = self.exec(&[python.to_str().expect("UTF-8"), "-c", &format!("{head}{script}\nprint(json.dumps(out, default=str))")]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// Every load balancer as AWS describes it, with `Tags`, `Attributes`, `Listeners` and `TargetGroups`.
    #[track_caller]
    pub(crate) fn balancers(&self) -> Vec<serde_json::Value> {
        const LOOK: &str = r#"
elb = aws("elbv2")
out = elb.describe_load_balancers()["LoadBalancers"]
pairs = lambda items: {i["Key"]: i["Value"] for i in items}
for b in out:
    arn = b["LoadBalancerArn"]
    b["Tags"] = pairs(elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])
    b["Attributes"] = pairs(elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"])
    b["Listeners"] = sorted(elb.describe_listeners(LoadBalancerArn=arn)["Listeners"], key=lambda l: l["Port"])
    b["TargetGroups"] = [g for g in elb.describe_target_groups()["TargetGroups"] if arn in g["LoadBalancerArns"]]
"#;
        match self.aws(LOOK) {
            serde_json::Value::Array(balancers) => balancers,
            other => panic!("no list: {other}"),
        }
    }

    /// What provision.py made of the AWS account: `vpc`, `subnets`, `cert`, `nodes`.
    pub(crate) fn account(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.run.join("aws.json")).expect("the profile has an AWS account");
        serde_json::from_str(&text).expect("JSON")
    }

    /// What AWS answers from now on (faults.md); `[]` is no fault.
    pub(crate) fn faults(&self, faults: &serde_json::Value) {
        std::fs::write(self.env("LAB_FAULTS"), faults.to_string()).expect("the run folder can be written");
    }

    /// GET through the load balancer as the runbook does it: status and body.
    pub(crate) fn get(&self, address: &str, host: &str, path: &str) -> Result<(u16, String), String> {
        let (header, url) = (format!("Host: {host}"), format!("http://{address}{path}"));
        let text = self.try_exec(&["curl", "-sS", "-m", "5", "-w", "\n%{http_code}", "-H", &header, &url])?;
        let (body, status) = text.rsplit_once('\n').ok_or("no answer")?;
        Ok((status.parse().map_err(|_| format!("status {status}"))?, body.to_owned()))
    }

    /// Waits until the host answers so, three times running: an old pod of the gateway may answer beside the new one for a moment.
    pub(crate) async fn answers(&self, limit: Duration, host: &str, status: u16) -> Result<(), String> {
        let (address, mut running) = (self.address(), 0);
        let look = || {
            let answer = self.get(&address, host, "/");
            running = if answer.as_ref().is_ok_and(|(code, _)| *code == status) { running + 1 } else { 0 };
            if running == 3 { Ok(()) } else { Err(format!("{answer:?}")) }
        };
        until(limit, host, look).await
    }

    /// Restarts what kubectl names so (`deployment/istiod`; `deployment`: all of them), and waits for it.
    pub(crate) fn restart(&self, namespace: &str, what: &str) {
        self.exec(&["kubectl", "-n", namespace, "rollout", "restart", what]);
        self.exec(&["kubectl", "-n", namespace, "rollout", "status", what, "--timeout=60s"]);
    }

    /// A new root, as a lost Secret brings it: istiod is made anew, and has told these namespaces.
    pub(crate) fn renew_root(&self, namespaces: &[&str]) {
        let told = || -> Vec<String> {
            let path = "jsonpath={.data.root-cert\\.pem}";
            let root = |namespace: &&str| self.try_exec(&["kubectl", "-n", namespace, "get", "configmap", "istio-ca-root-cert", "-o", path]);
            namespaces.iter().map(|namespace| root(namespace).unwrap_or_default()).collect()
        };
        let old = told();
        self.exec(&["kubectl", "-n", "istio-system", "delete", "secret", "istio-ca-secret"]);
        self.restart("istio-system", "deployment/istiod");
        eventually(Duration::from_secs(60), "the new root in the ConfigMaps", || {
            let new = told();
            let is_new = new.iter().zip(&old).all(|(new, old)| !new.is_empty() && new != old) && new.windows(2).all(|two| two[0] == two[1]);
            if is_new { Ok(()) } else { Err("the old one".to_owned()) }
        });
    }

    /// The load balancer's name in the Ingress.
    pub(crate) fn address(&self) -> String {
        self.exec(&["kubectl", "-n", "istio-system", "get", "ingress", "gw-ingress", "-o", "jsonpath={.status.loadBalancer.ingress[0].hostname}"])
    }

    /// `kubectl get … -o json`, its items.
    pub(crate) fn items(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let text = self.exec(&[&["kubectl", "get"], words, &["-o", "json"]].concat());
        let mut list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        match list["items"].take() {
            serde_json::Value::Array(items) => items,
            other => panic!("no items: {other}"),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("LAB_KEEP").is_some() {
            println!(
                "LAB_KEEP: the lab stays up; look with `LAB_RUN={} . tests/lab/kit/env`, end it with LAB_RUN=… LAB_NS={} tests/lab/kit/down.sh",
                self.run.display(),
                namespace(lane())
            );
            return;
        }
        if let Err(error) = clean() {
            println!("{error}");
        }
    }
}

/// A finished run of the tool under test.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Run {
    fn of(mut command: Command) -> Self {
        let start = std::time::Instant::now();
        let Output { status, stdout, stderr } = command.output().expect("meshstep starts");
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        Self { code: status.code().unwrap_or(-1), text, took: start.elapsed() }
    }

    /// The exit code must be this.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "meshstep ended with another code after {:?}:\n{}", self.took, self.text);
        self
    }
}

/// The `export K=V K=V` lines of a shell file whose values hold no spaces.
fn exports(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.strip_prefix("export ")).flat_map(str::split_whitespace);
    pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
