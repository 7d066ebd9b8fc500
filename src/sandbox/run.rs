//! Starting and stopping a sandbox, and the environment in which ordinary clients find it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use regex::Regex;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::api::{Fault, Faults, Log, LogLine, LogRequest, Options, Seen, Server};
use super::aws::{Account, Endpoint};
use super::pki::{Authority, Term};
use super::sim::{Shown, Sim};
use super::store::meta::{self, suffix};
use super::store::{Status, Store, User};
use super::world::{self, ApiFault, AwsFault, World};
use super::{auth, aws, controllers, dns, gateway, kubelet, outside, seed, tool};

/// A running sandbox. Dropping it stops it.
pub struct Sandbox {
    environment: Vec<(String, String)>,
    tools: PathBuf,
    tasks: Vec<AbortHandle>,
    server: Option<Server>,
    sim: Arc<Sim>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.server.take();
    }
}

impl Sandbox {
    /// The environment for whoever shall see the sandbox instead of the world: names and values.
    pub fn env(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The folder with the stand-in for istioctl, to be appended to PATH.
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// The API server, for what only it can do: look at the requests, freeze, drop connections.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// From now on AWS answers with these faults; they take the place of the world's.
    ///
    /// # Errors
    /// When a regular expression is broken.
    pub fn aws_faults(&self, faults: &[AwsFault]) -> Result<(), String> {
        self.sim.aws.set_faults(faults)
    }

    /// With `true` no AWS call is answered until `false`; connections stay open.
    pub fn freeze_aws(&self, on: bool) {
        self.sim.aws.frozen.send_replace(on);
    }

    /// With `true` no EKS token stands for anybody.
    pub fn refuse_tokens(&self, on: bool) {
        self.sim.refuse_tokens.store(on, Ordering::Relaxed);
    }

    /// The world's `dns.strays` leave the DNS.
    pub fn drop_strays(&self) {
        self.sim.strays_left.store(true, Ordering::Relaxed);
    }

    /// Ends everything at once.
    pub fn stop(self) {
        drop(self);
    }
}

/// Starts a sandbox from a world file's text. Its files (kubeconfig, certificates, tools) go into `dir`.
///
/// # Errors
/// A broken world file, with line and column, or what could not be set up.
pub async fn start(world_yaml: &str, dir: &Path) -> Result<Sandbox, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    start_with_tool(world_yaml, dir, &program).await
}

/// `start`, with another program behind the stand-in for istioctl.
///
/// # Errors
/// As `start`.
pub async fn start_with_tool(world_yaml: &str, dir: &Path, program: &Path) -> Result<Sandbox, String> {
    let world = Arc::new(world::parse(world_yaml)?);
    let store = Store::new();
    store.set_graceful_pods(true);
    let account = Arc::new(Account::new(Arc::clone(&world))?);
    let sim = Arc::new(Sim::new(store.clone(), Arc::clone(&world), Arc::clone(&account)));
    let admin_token = format!("sandbox-{}", suffix(24));
    let server = Server::start(store, options(&sim, &admin_token)?).await?;
    let endpoint = Endpoint { url: server.url(), ca: server.ca_pem().to_owned() };
    // the account is new: nobody set it before
    let _ = account.cluster.set(endpoint);
    seed::hooks(&sim);
    seed::plant(&sim)?;

    let mut tasks = vec![tokio::spawn(controllers::run(Arc::clone(&sim))).abort_handle()];
    let (aws_address, task) = aws::serve(Arc::clone(&account)).await?;
    tasks.push(task);
    let (dns_address, task) = dns::serve(lookup(&sim), world.dns.silent).await?;
    tasks.push(task);
    let authority = Authority::new("meshstep sandbox").map_err(|error| error.to_string())?;
    let names: Vec<&str> = world.aws.certificates.iter().flat_map(|c| &c.domains).map(String::as_str).collect();
    let certificates = &world.aws.certificates;
    let term = Term {
        days: certificates.iter().filter_map(|certificate| certificate.days).min(),
        starts_in: certificates.iter().filter_map(|certificate| certificate.starts_in).max(),
    };
    let private = certificates.iter().any(|certificate| certificate.untrusted).then(|| Authority::new("a private authority"));
    let private = private.transpose().map_err(|error| error.to_string())?;
    let issuer = private.as_ref().unwrap_or(&authority);
    let leaf = issuer.leaf(&names, term)?;
    let shown = Shown { authority: issuer.pem().to_owned(), names: names.iter().map(|name| (*name).to_owned()).collect(), term };
    // nobody set it before
    let _ = sim.shown.set(shown);
    let (connect, listeners) = gateway::serve(&sim, leaf)?;
    tasks.extend(listeners);
    let tls = authority.server(&outside::HOSTS, &["http/1.1"])?;
    let (proxy, task) = outside::serve(TlsAcceptor::from(Arc::new(tls)), &world.istio.version).await?;
    tasks.push(task);

    let write = |name: &str, text: &str| -> Result<String, String> {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path.display().to_string())
    };
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    let kubeconfig = write("kubeconfig", &server.kubeconfig(&world.cluster.name, &admin_token))?;
    let ca = write("public-ca.pem", authority.pem())?;
    let tools = tool::write(dir, program)?;
    let mut environment = environment(&world, &kubeconfig, aws_address, dns_address, &connect, &ca, &tools);
    environment.extend(ways_out(proxy, &ca, dir));
    Ok(Sandbox { environment, tools, tasks, server: Some(server), sim })
}

fn environment(world: &World, kubeconfig: &str, aws: SocketAddr, dns: SocketAddr, connect: &str, ca: &str, tools: &Path) -> Vec<(String, String)> {
    let pairs = [
        ("KUBECONFIG", kubeconfig.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{aws}")),
        ("AWS_REGION", world.cluster.region.clone()),
        ("AWS_ACCESS_KEY_ID", world.access.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", world.access.secret_key.clone()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("MESHSTEP_AWS_PACE", "1s".to_owned()),
        ("MESHSTEP_DNS", dns.to_string()),
        ("MESHSTEP_CONNECT_TO", connect.to_owned()),
        ("MESHSTEP_CACERT", ca.to_owned()),
        ("MESHSTEP_SANDBOX_TOOLS", tools.display().to_string()),
        ("MESHSTEP_SANDBOX_ISTIO_VERSION", world.istio.version.clone()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What keeps tools inside: the proxy, its authority, and folders in the place of the user's own for what helm remembers.
fn ways_out(proxy: SocketAddr, ca: &str, dir: &Path) -> Vec<(String, String)> {
    let file = |name: &str| dir.join(name).display().to_string();
    let pairs = [
        ("HTTPS_PROXY", format!("http://{proxy}")),
        ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
        ("SSL_CERT_FILE", ca.to_owned()),
        ("HELM_CACHE_HOME", file("helm-cache")),
        ("HELM_CONFIG_HOME", file("helm-config")),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn options(sim: &Arc<Sim>, admin_token: &str) -> Result<Options, String> {
    let (for_users, token) = (Arc::clone(sim), admin_token.to_owned());
    let authenticate = move |given: &str| {
        let now = SystemTime::now() + for_users.world.cluster.clock_ahead.0;
        let user = auth::authenticate(&for_users.world, &token, given, now).ok()?;
        if user.name != auth::ADMIN && for_users.refuse_tokens.load(Ordering::Relaxed) {
            return None;
        }
        Some(User { name: user.name, uid: user.uid, groups: user.groups })
    };
    let for_rights = Arc::clone(&sim.world);
    let for_logs = Arc::clone(sim);
    let for_forward = Arc::clone(sim);
    Ok(Options {
        version: format!("v{}.2", sim.world.cluster.version),
        ahead: sim.world.cluster.clock_ahead.0,
        authenticate: Arc::new(authenticate),
        authorize: Arc::new(move |seen| allowed(&for_rights, seen)),
        logs: Arc::new(move |request| logs(&for_logs, request)),
        forward: Arc::new(move |namespace, pod, port| {
            let opened = gateway::forward(&for_forward, namespace, pod, port);
            Box::pin(async move { opened.map(|stream| Box::new(stream) as Box<dyn super::api::Duplex>) })
        }),
        faults: faults(&sim.world.api)?,
        ..Options::default()
    })
}

/// Whether the world lets the EKS identity make a call.
fn allowed(world: &World, seen: &Seen) -> bool {
    let resource = if seen.subresource.is_empty() { seen.resource.clone() } else { format!("{}/{}", seen.resource, seen.subresource) };
    // Who asks for everything asks for what is denied too.
    let everything = seen.verb == "*";
    let holds = |wanted: &Option<String>, given: &str| everything || wanted.as_deref().is_none_or(|wanted| wanted == given);
    let ours = seen.user.as_ref().is_some_and(|user| user.name == world.access.arn);
    // Everybody may ask what he may do.
    let about_himself = seen.resource.starts_with("selfsubject");
    let hit =
        |denied: &world::Denied| holds(&denied.verb, &seen.verb) && holds(&denied.resource, &resource) && holds(&denied.namespace, &seen.namespace);
    !ours || about_himself || resource.is_empty() || !world.access.denied.iter().any(hit)
}

fn logs(sim: &Sim, request: &LogRequest) -> Result<Log, Status> {
    let pod = sim.store.get(controllers::PODS, &request.namespace, &request.pod);
    let life = pod.and_then(|pod| sim.kubelet().life(meta::uid(&pod)));
    let life = life.as_deref().map(kubelet::locked);
    let container = life.as_ref().and_then(|life| life.containers.iter().find(|container| container.name == request.container));
    let lines = match container.map(|container| (&container.log, container.backs_off())) {
        // while it waits for its next run, what ran last is the previous one as well
        Some((log, false)) if request.previous => log.previous.clone().ok_or_else(|| {
            Status::bad_request(format!("previous terminated container {:?} in pod {:?} not found", request.container, request.pod))
        })?,
        Some((log, _)) => log.current.clone(),
        None => Vec::new(),
    };
    Ok(Log { lines: lines.into_iter().map(|(at, text)| LogLine { at, text }).collect(), more: None })
}

/// The world's faults of API calls, counted as they are used up.
fn faults(faults: &[ApiFault]) -> Result<Faults, String> {
    let mut armed = Vec::new();
    for fault in faults {
        let path = fault.path.as_deref().map(Regex::new).transpose().map_err(|error| format!("world file: `api`: {error}"))?;
        armed.push((fault.clone(), path, AtomicU32::new(0)));
    }
    Ok(Arc::new(move |seen: &Seen| {
        let hit = armed.iter().find(|(fault, path, used)| {
            let verb = fault.verb.as_ref().is_none_or(|verb| *verb == seen.verb);
            verb && path.as_ref().is_none_or(|path| path.is_match(&seen.path)) && fault.times.is_none_or(|times| used.load(Ordering::Relaxed) < times)
        });
        let (fault, _, used) = hit?;
        used.fetch_add(1, Ordering::Relaxed);
        Some(match fault.status {
            _ if fault.hangup => Fault::HangUp,
            Some(code) => Fault::Answer(Status::new(code, reason(code), fault.message.clone().unwrap_or_default())),
            None => fault.mute.map_or(Fault::Delay(fault.delay.0), |after| Fault::MuteWatch(after.0)),
        })
    }))
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "BadRequest",
    }
}

/// Names of load balancers that are in the DNS now, and the world's own.
fn lookup(sim: &Arc<Sim>) -> dns::Lookup {
    let sim = Arc::clone(sim);
    Arc::new(move |name| {
        if let Some((_, addresses)) = sim.world.dns.names.iter().find(|(pattern, _)| world::wild(pattern, name)) {
            return (!addresses.is_empty()).then(|| addresses.iter().copied().map(IpAddr::V4).collect());
        }
        let state = sim.aws.state();
        let known = state.load_balancers.iter().find(|lb| lb.dns_name.eq_ignore_ascii_case(name))?;
        let strays = if sim.strays_left.load(Ordering::Relaxed) { &[][..] } else { &sim.world.dns.strays };
        let own = std::iter::once(IpAddr::V4(Ipv4Addr::LOCALHOST));
        known.named(&sim.world).then(|| own.chain(strays.iter().map(|stray| stray.address)).collect())
    })
}
