//! `cargo lab scenarios [WORD...]`: the files of tests/scenarios on the sandbox and on the lab, and both verdicts side by side.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meshstep::base::mutex::lock;
use meshstep::sandbox::world::{AwsFault, Denied, TokenPolicy, World};
use serde_json::{Value, json};

use crate::logs::Logs;
use crate::player::Player;
use crate::runner::sandbox::{CLUSTER, Sandbox};
use crate::runner::{Part, Played, Profile, Scenario, Side, Stage, chosen, play};
use crate::support::{self, Lab};

/// What waits more than it works, at once.
const AT_ONCE: usize = 6;
/// Every scenario's identity has it; a word that also stands in messages would be masked there.
const SECRET: &str = "a-key-of-the-lab-that-opens-nothing-real";

/// Plays the files whose paths contain one of the words; without words all that the lab can play.
pub(crate) fn both_sides(words: &[String]) {
    meshstep::clients::install_crypto_provider();
    let files = chosen(words);
    assert!(!files.is_empty(), "no scenario is named so");
    let mut scenarios: Vec<(PathBuf, Scenario)> =
        files.iter().map(|file| (file.clone(), Scenario::read(file, &[]).unwrap_or_else(|problem| panic!("{problem}")))).collect();
    // what only the sandbox can play is the concern of `cargo test`, unless it is named
    scenarios.retain(|(_, scenario)| !words.is_empty() || scenario.not_on.lab.is_none());
    // the longest first, so that nothing is left to wait for at the end
    scenarios.sort_by_key(|(_, scenario)| std::cmp::Reverse(scenario.expect.within.0));
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (_, scenario) in &scenarios {
        rows.insert(scenario.name.clone(), Row::new(scenario));
    }
    let mut here: Vec<&Path> = scenarios.iter().filter(|(_, s)| s.not_on.sandbox.is_none()).map(|(file, _)| file.as_path()).collect();
    for profile in [Profile::Alb, Profile::Full] {
        let mine: Vec<&(PathBuf, Scenario)> = scenarios.iter().filter(|(_, s)| s.lab == profile && s.not_on.lab.is_none()).collect();
        if mine.is_empty() {
            continue;
        }
        let profile = if profile == Profile::Alb { support::Profile::Alb } else { support::Profile::Full };
        let side = RealParts::up(profile);
        let (alone, together): (Vec<&(PathBuf, Scenario)>, Vec<_>) = mine.into_iter().partition(|(_, s)| s.alone());
        let paths = |list: &[&(PathBuf, Scenario)]| list.iter().map(|(file, _)| file.clone()).collect::<Vec<_>>();
        support::runtime().block_on(async {
            for (files, at_once) in [(paths(&together), AT_ONCE), (paths(&alone), 1)] {
                let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
                // the sandbox plays beside the first of the lab's
                let (lab, on_sandbox) = (&side, std::mem::take(&mut here));
                let (on_lab, on_sandbox) = futures::join!(all(&lab, &files, at_once), all(&Sandbox, &on_sandbox, AT_ONCE));
                on_lab.into_iter().for_each(|(name, played)| drop(rows.entry(name).and_modify(|row| row.lab = Ok(played))));
                on_sandbox.into_iter().for_each(|(name, played)| drop(rows.entry(name).and_modify(|row| row.sandbox = Ok(played))));
            }
        });
    }
    let wrong = told(&rows);
    assert!(wrong.is_empty(), "not as expected, or not the same on both sides: {}", wrong.join(", "));
}

async fn all<S: Side>(side: &S, files: &[&Path], at_once: usize) -> Vec<(String, Played)> {
    let one = |file: &Path| {
        let file = file.to_owned();
        async move { (file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), play(side, &file).await) }
    };
    stream::iter(files.iter().map(|file| one(file))).buffer_unordered(at_once).collect().await
}

/// A scenario's line in the table.
struct Row {
    about: String,
    expected: String,
    sandbox: Result<Played, String>,
    lab: Result<Played, String>,
}

impl Row {
    fn new(scenario: &Scenario) -> Self {
        let reason = |reason: &Option<String>| Err(reason.clone().unwrap_or_else(|| "not played".to_owned()));
        Self {
            about: scenario.about.clone(),
            expected: scenario.expect.code.clone().unwrap_or_else(|| "ok".to_owned()),
            sandbox: reason(&scenario.not_on.sandbox),
            lab: reason(&scenario.not_on.lab),
        }
    }

    /// Everything that is not as it should be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (side, played) in [("sandbox", &self.sandbox), ("lab", &self.lab)] {
            match played {
                Ok(played) => problems.extend(played.problems.iter().map(|problem| format!("{side}: {problem}"))),
                Err(reason) if reason == "not played" => problems.push(format!("{side}: not played")),
                Err(_) => {}
            }
        }
        if let (Ok(sandbox), Ok(lab)) = (&self.sandbox, &self.lab)
            && sandbox.verdict != lab.verdict
        {
            let only = |one: &Played, other: &Played| {
                one.verdict.cases.iter().filter(|case| !other.verdict.cases.contains(case)).cloned().collect::<Vec<_>>().join(", ")
            };
            problems.push(format!("differ: sandbox alone has [{}], lab alone [{}]", only(sandbox, lab), only(lab, sandbox)));
        }
        problems
    }
}

/// Prints the table; the names of what is wrong.
fn told(rows: &BTreeMap<String, Row>) -> Vec<String> {
    let cell = |played: &Result<Played, String>| match played {
        Ok(played) => format!("{:<24} {:6.1} s", played.verdict.word(), played.took.as_secs_f64()),
        Err(_) => format!("{:<24} {:>8}", "-", ""),
    };
    println!("{:30} {:22} {:34} {:34}", "scenario", "expected", "sandbox", "lab");
    for (name, row) in rows {
        println!("{name:30} {:22} {:34} {:34}", row.expected, cell(&row.sandbox), cell(&row.lab));
        for (side, played) in [("sandbox", &row.sandbox), ("lab", &row.lab)] {
            if let Err(reason) = played {
                println!("{:30} not on the {side}: {reason}", "");
            }
        }
    }
    let mut wrong = Vec::new();
    for (name, row) in rows {
        let problems = row.problems();
        if problems.is_empty() {
            continue;
        }
        wrong.push(name.clone());
        println!("\n{name}: {}", row.about);
        problems.iter().for_each(|problem| println!("  {problem}"));
        for (side, played) in [("sandbox", &row.sandbox), ("lab", &row.lab)] {
            if let Ok(played) = played {
                played.text.lines().for_each(|line| println!("    {side:>7} | {line}"));
            }
        }
    }
    wrong
}

/// A running lab as a side: scenarios share it, each in a namespace of its own.
pub(crate) struct RealParts {
    lab: Lab,
    client: Option<Client>,
    logs: Logs,
    users: Mutex<serde_json::Map<String, Value>>,
}

impl RealParts {
    pub(crate) fn up(profile: support::Profile) -> Self {
        let lab = Lab::up(profile, &[]);
        // in a network namespace of its own the API server cannot be asked from here
        let client = (profile == support::Profile::Alb).then(|| {
            let config = Kubeconfig::read_from(lab.env("KUBECONFIG")).expect("a kubeconfig");
            support::runtime().block_on(async {
                let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a usable kubeconfig");
                Client::try_from(config).expect("a client")
            })
        });
        let users = std::fs::read_to_string(lab.env("LAB_EKS_USERS")).expect("up.sh wrote it");
        let users = serde_json::from_str(&users).expect("JSON");
        if profile == support::Profile::Full {
            lab.images(&[("app1", 8000), ("app2", 8001), ("app3", 8002)]);
        }
        let logs = Logs::default();
        if client.is_some() {
            support::runtime().block_on(logs.serve()).unwrap_or_else(|problem| panic!("{problem}"));
        }
        Self { lab, client, logs, users: Mutex::new(users) }
    }

    /// Gives an access key to an identity, or takes it away.
    fn set_user(&self, key: &str, user: Option<Value>) -> Result<(), String> {
        let mut users = lock(&self.users);
        match user {
            Some(user) => drop(users.insert(key.to_owned(), user)),
            None => drop(users.remove(key)),
        }
        let file = self.lab.env("LAB_EKS_USERS");
        // it is read at any time, so it is never half written
        let new = format!("{file}.new");
        std::fs::write(&new, Value::Object(users.clone()).to_string()).map_err(|error| error.to_string())?;
        std::fs::rename(&new, file).map_err(|error| error.to_string())
    }

    async fn kubectl(&self, words: &[&str], input: &Value) -> Result<(), String> {
        let mut command = self.lab.command("kubectl");
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let input = input.to_string();
        let run = move || -> Result<(), String> {
            let mut child = command.spawn().map_err(|error| error.to_string())?;
            let mut pipe = child.stdin.take().ok_or("no pipe")?;
            pipe.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
            drop(pipe);
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(format!("kubectl: {}", String::from_utf8_lossy(&output.stderr).trim())) }
        };
        tokio::task::spawn_blocking(run).await.map_err(|error| error.to_string())?
    }

    /// One of the lab's own tools, with the administrator's rights.
    pub(crate) async fn tool(&self, program: &str, words: &[&str]) -> Result<Output, String> {
        let mut command = tokio::process::Command::from(self.lab.command(program));
        command.args(words).output().await.map_err(|error| error.to_string())
    }

    pub(crate) async fn apply(&self, objects: &[Value]) -> Result<(), String> {
        const APPLY: [&str; 6] = ["apply", "--server-side", "--force-conflicts", "--field-manager=scenario", "-f", "-"];
        for object in objects {
            let begun = Instant::now();
            // a new kind is known a moment after its definition
            while let Err(problem) = self.kubectl(&APPLY, object).await {
                if !problem.contains("no matches for kind") || begun.elapsed() > Duration::from_secs(10) {
                    return Err(problem);
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, objects: &[Value]) -> Result<(), String> {
        for object in objects {
            self.kubectl(&["delete", "--ignore-not-found", "--wait=false", "-f", "-"], object).await?;
        }
        Ok(())
    }
}

impl<'a> Side for &'a RealParts {
    type Stage = Arranged<'a>;

    fn words(&self) -> Vec<(&'static str, String)> {
        let account = self.lab.account();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        vec![("<certificate>", text(&account["cert"])), ("<subnet>", text(&account["subnets"][0]))]
    }

    async fn arrange(&self, scenario: &Scenario) -> Result<Arranged<'a>, String> {
        let world = scenario.world(&json!({}))?;
        refuse(&world)?;
        let key = format!("AKIA{}", scenario.name.to_uppercase().replace('-', ""));
        let arranged =
            Arranged { side: self, name: scenario.name.clone(), key, player: None, foreign: Mutex::default(), disturbed: Mutex::default() };
        if world.access.token == TokenPolicy::Accept {
            let groups = if world.access.denied.is_empty() { "system:masters" } else { &scenario.name };
            let arn = format!("arn:aws:iam::123456789012:role/{}", scenario.name);
            self.set_user(&arranged.key, Some(json!({"secret": SECRET, "username": arn, "groups": [groups]})))?;
        }
        for namespace in &world.namespaces {
            let labels = &namespace.labels;
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": labels}});
            self.apply(&[object]).await?;
        }
        if !world.access.denied.is_empty() {
            arranged.apply(&rights(&scenario.name, &world.access.denied)).await?;
        }
        let objects: Vec<Value> = world.objects.iter().map(|seed| seed.manifest.clone()).collect();
        let player = self.client.as_ref().map(|client| Player::start(client.clone(), &scenario.name, world.clone(), self.logs.clone()));
        let arranged = Arranged { player, ..arranged };
        arranged.apply(&objects).await?;
        if !world.aws.calls.is_empty() {
            arranged.aws(&world.aws.calls).await?;
        }
        Ok(arranged)
    }
}

/// What a world may say and the lab cannot do is an error, never overlooked.
fn refuse(world: &World) -> Result<(), String> {
    let plain = World { name: world.name.clone(), about: world.about.clone(), ..World::default() };
    let mut here = world.clone();
    (here.namespaces, here.objects, here.images, here.pods) = Default::default();
    // the lab's account has none
    here.aws.internal_subnets = here.aws.internal_subnets.filter(|subnets| *subnets > 0);
    (here.access.token, here.access.denied, here.times, here.aws.calls) = Default::default();
    if here == plain { Ok(()) } else { Err("the lab cannot stage all of this world: give the reason in `not-on: {lab: …}`".to_owned()) }
}

/// A role that may do everything but what is denied.
fn rights(name: &str, denied: &[Denied]) -> Vec<Value> {
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    let all = [
        (
            "",
            "namespaces nodes pods pods/log pods/portforward services endpoints secrets configmaps serviceaccounts events resourcequotas persistentvolumeclaims",
        ),
        ("apps", "deployments replicasets statefulsets daemonsets controllerrevisions"),
        ("batch", "jobs"),
        ("networking.k8s.io", "ingresses ingressclasses"),
        ("elbv2.k8s.aws", "targetgroupbindings"),
        ("discovery.k8s.io", "endpointslices"),
        ("coordination.k8s.io", "leases"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations validatingwebhookconfigurations"),
    ];
    let mut rules = vec![json!({"apiGroups": ["authorization.k8s.io"], "resources": ["*"], "verbs": ["create"]})];
    for (group, resources) in all {
        for resource in resources.split(' ') {
            let may = |verb: &&str| {
                let same = |wanted: &Option<String>, given: &str| wanted.as_deref().is_none_or(|wanted| wanted == given);
                !denied.iter().any(|d| same(&d.verb, verb) && same(&d.resource, resource))
            };
            let verbs: Vec<&str> = verbs.iter().copied().filter(|verb| may(verb)).collect();
            rules.push(json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}));
        }
    }
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    vec![role, binding]
}

/// A scenario's part of the lab.
pub(crate) struct Arranged<'a> {
    side: &'a RealParts,
    name: String,
    key: String,
    player: Option<Player>,
    /// What was made outside its namespace.
    foreign: Mutex<Vec<Value>>,
    /// Parts that do not run as they should, and what mends them.
    disturbed: Mutex<Vec<(&'static str, &'static str)>>,
}

impl Stage for Arranged<'_> {
    fn cluster(&self) -> Value {
        json!({"name": CLUSTER.0, "region": CLUSTER.1})
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = self.side.lab.command(program);
        command.env_remove("KUBECONFIG").env("AWS_ACCESS_KEY_ID", &self.key).env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("MESHSTEP_HELM", support::cache().join("bin/helm"));
        command
    }

    async fn apply(&self, objects: &[Value]) -> Result<(), String> {
        self.side.apply(objects).await?;
        let foreign = objects.iter().filter(|object| object["metadata"]["namespace"] != self.name.as_str());
        lock(&self.foreign).extend(foreign.cloned());
        Ok(())
    }

    async fn delete(&self, object: &Value) -> Result<(), String> {
        self.side.delete(std::slice::from_ref(object)).await
    }

    async fn aws(&self, faults: &[AwsFault]) -> Result<(), String> {
        let told = |fault: &AwsFault| {
            let mut value = serde_json::to_value(fault).expect("JSON");
            value["delay"] = fault.delay.0.as_secs_f64().into();
            if let Some(map) = value.as_object_mut() {
                map.retain(|key, value| !value.is_null() && (key != "delay" || *value != json!(0.0)) && (key != "hangup" || *value == true));
            }
            value
        };
        self.side.lab.faults(&faults.iter().map(told).collect());
        Ok(())
    }

    async fn refuse_token(&self) -> Result<(), String> {
        self.side.set_user(&self.key, None)
    }

    async fn drop_strays(&self) -> Result<(), String> {
        Err("the lab's load balancers have no strays".to_owned())
    }

    async fn part(&self, what: &str, part: Part) -> Result<(), String> {
        let name = match part {
            Part::Apiserver => "apiserver",
            Part::Etcd => "etcd",
            Part::Aws => "moto",
            Part::Controller => "lbc",
        };
        {
            let mut disturbed = lock(&self.disturbed);
            disturbed.retain(|(part, _)| *part != name);
            match what {
                "stop" => disturbed.push((name, "start")),
                "freeze" => disturbed.push((name, "thaw")),
                _ => {}
            }
        }
        // stopping a part may take seconds
        let what = what.to_owned();
        tokio::task::spawn_blocking(move || support::part(&what, name)).await.map_err(|error| error.to_string())
    }

    async fn end(self) -> Result<(), String> {
        let disturbed = std::mem::take(&mut *lock(&self.disturbed));
        let mended = !disturbed.is_empty();
        for (part, what) in disturbed {
            support::part(what, part);
        }
        drop(self.player);
        if self.side.client.is_some() {
            self.side.lab.faults(&json!([]));
        }
        if mended {
            let lab = &self.side.lab;
            support::until(Duration::from_secs(30), "the API server answers again", || lab.try_exec(&["kubectl", "get", "--raw", "/readyz"])).await?;
        }
        self.side.set_user(&self.key, None)?;
        let foreign = std::mem::take(&mut *lock(&self.foreign));
        self.side.delete(&foreign).await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}});
        self.side.delete(&[namespace]).await
    }
}
