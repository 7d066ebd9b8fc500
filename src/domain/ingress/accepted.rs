//! Link 1 and 2: has a controller taken the Ingress, and has it given it a hostname?

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::ingress::Link;
use crate::domain::ingress::events::{self, Event, Meaning, Ours};
use crate::domain::ingress::listeners::{self, Listener};

/// Begins the finalizer of an Ingress that shares its load balancer.
const GROUP: &str = "group.ingress.k8s.aws/";
/// The finalizer of one that is in no group.
const RESOURCES: &str = "ingress.k8s.aws/resources";
/// How long a controller may take to put its finalizer on an Ingress.
const SILENCE: Duration = Duration::from_secs(60);
/// An event older than this may describe what has been corrected since; the controller gets this long to say something newer.
const STALE: Duration = Duration::from_secs(60);
const STALE_GRACE: Duration = Duration::from_secs(20);
/// How long words of the moment before the newest change may stand: they count only because clocks differ and know whole seconds.
const JUST_BEFORE: Duration = Duration::from_secs(3);
/// A controller answers a change within this time; a hostname beside a younger one may be the former load balancer's.
const UNANSWERED: Duration = Duration::from_secs(30);

/// What is known of an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub namespace: String,
    pub name: String,
    pub finalizers: Vec<String>,
    pub hostnames: Vec<String>,
    /// The class by annotation, which wins, or by `spec.ingressClassName`.
    pub class: Option<String>,
    /// `spec.controller` of the IngressClass of that name, if there is one.
    pub class_controller: Option<String>,
    /// When its spec or annotations last changed.
    pub applied: Option<Timestamp>,
    pub deleting: bool,
    pub events: Vec<Event>,
    /// The Services that its rules and its default backend name.
    pub backends: Vec<String>,
    /// Those that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// Its annotation `certificate-arn`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificates: String,
    /// Looked for once nobody has taken it for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
}

/// What is known of the load balancer controller's Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Controller {
    Found {
        name: String,
        ready: i32,
        wanted: i32,
    },
    Missing,
    /// And why it cannot be seen.
    Unseen(String),
}

impl Seen {
    /// Reads an Ingress object; class and events come from elsewhere.
    pub fn of(ingress: &Value) -> Self {
        let text = |pointer: &str| ingress.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let list = |pointer: &str| ingress.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let annotation = |key: &str| ingress.pointer("/metadata/annotations").and_then(|all| all.get(key)?.as_str());
        let hostnames = list("/status/loadBalancer/ingress").iter().filter_map(|i| i.get("hostname")?.as_str().map(str::to_owned)).collect();
        let service = |backend: &Value| backend.pointer("/service/name").and_then(Value::as_str).map(str::to_owned);
        let mut backends: Vec<String> = ingress.pointer("/spec/defaultBackend").and_then(service).into_iter().collect();
        for rule in list("/spec/rules") {
            let paths = rule.pointer("/http/paths").and_then(Value::as_array).cloned().unwrap_or_default();
            backends.extend(paths.iter().filter_map(|p| service(p.get("backend")?)));
        }
        backends.dedup();
        Self {
            namespace: text("/metadata/namespace").unwrap_or_default(),
            name: text("/metadata/name").unwrap_or_default(),
            finalizers: list("/metadata/finalizers").iter().filter_map(|f| f.as_str().map(str::to_owned)).collect(),
            hostnames,
            class: annotation("kubernetes.io/ingress.class").map(str::to_owned).or_else(|| text("/spec/ingressClassName")),
            class_controller: None,
            applied: applied(ingress),
            deleting: ingress.pointer("/metadata/deletionTimestamp").is_some(),
            events: Vec::new(),
            backends,
            listeners: annotation("alb.ingress.kubernetes.io/listen-ports").map(listeners::named).unwrap_or_default(),
            certificates: annotation("alb.ingress.kubernetes.io/certificate-arn").unwrap_or_default().to_owned(),
            controller: None,
        }
    }

    /// The stacks of the load balancer controller that it belongs to: its group, or itself. Two while it changes over, none where nobody has
    /// taken it.
    pub fn stacks(&self) -> Vec<String> {
        let stack = |finalizer: &String| match finalizer.strip_prefix(GROUP) {
            Some(group) => Some(group.to_owned()),
            None => (finalizer == RESOURCES).then(|| format!("{}/{}", self.namespace, self.name)),
        };
        self.finalizers.iter().filter_map(stack).collect()
    }

    /// The load balancer's name; a network load balancer in front of it may be listed beside it.
    pub fn hostname(&self) -> Option<&str> {
        let is_alb = |h: &&String| h.trim_end_matches('.').rsplit('.').nth(3).is_some_and(|label| label != "elb");
        self.hostnames.iter().find(is_alb).or(self.hostnames.first()).map(String::as_str)
    }

    fn is_auto_mode(&self) -> bool {
        self.class_controller.as_deref() == Some("eks.amazonaws.com/alb")
    }

    /// The listeners to ask where AWS is not asked: those that it names, else the usual ones.
    pub fn listeners_to_ask(&self) -> Vec<Listener> {
        listeners::or_usual(listeners::to_ask(&self.listeners, &[]))
    }

    /// Is it the self-managed controller's to take? Its class by annotation needs no IngressClass.
    fn is_for_the_controller(&self) -> bool {
        self.class_controller.as_deref().map_or(self.class.as_deref() == Some("alb"), |controller| controller == "ingress.k8s.aws/alb")
    }

    fn meaning(&self, event: &Event) -> Meaning {
        let in_group = self.finalizers.iter().any(|finalizer| finalizer.starts_with(GROUP));
        events::meaning(event, Ours { namespace: &self.namespace, name: &self.name, in_group, certificates: &self.certificates })
    }

    fn is_taken(&self) -> bool {
        let finalizer = self.finalizers.iter().any(|f| f == RESOURCES || f.starts_with(GROUP) || f.starts_with("eks.amazonaws.com/"));
        let reconciled = events::newest(&self.events, self.applied).is_some_and(|e| e.reason == "SuccessfullyReconciled");
        finalizer || reconciled || !self.hostnames.is_empty()
    }

    /// Has nobody taken it for so long that the controller is to be looked for?
    pub fn is_left_alone(&self, now: Timestamp, waited: Duration) -> bool {
        let since_apply = self.applied.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or(waited);
        !self.is_taken() && (waited >= SILENCE || (since_apply >= SILENCE && waited >= STALE_GRACE))
    }

    /// What the controller said last of the Ingress as it is now, and how long ago.
    fn last_words(&self, now: Timestamp) -> Option<(String, Duration)> {
        let event = events::newest(&self.events, self.applied)?;
        let known = self.meaning(event) != Meaning::Ignored;
        let age = event.last.and_then(|last| Duration::try_from(now.duration_since(last)).ok()).unwrap_or_default();
        known.then(|| (events::words(event), age))
    }
}

/// When the spec or the annotations last changed, by the server's own book-keeping.
fn applied(ingress: &Value) -> Option<Timestamp> {
    let time = |v: &Value| v.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let entries = ingress.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    let ours = entries.iter().filter(|entry| {
        let fields = entry.get("fieldsV1");
        fields.is_some_and(|f| f.get("f:spec").is_some() || f.pointer("/f:metadata/f:annotations").is_some())
    });
    ours.filter_map(|entry| time(entry.get("time")?)).max().or_else(|| time(ingress.pointer("/metadata/creationTimestamp")?))
}

/// Has a controller taken it? `waited` is how long we have been looking.
pub fn accepted(seen: &Seen, now: Timestamp, waited: Duration) -> Link<String> {
    if let Some(broken) = refused(seen, now, waited) {
        return broken;
    }
    if seen.deleting {
        return Link::NotYet("the Ingress is being deleted".to_owned());
    }
    if seen.is_taken() {
        let by = if seen.is_auto_mode() { "EKS Auto Mode" } else { "the load balancer controller" };
        return Link::holds(format!("taken by {by}"));
    }
    let last = seen.last_words(now);
    let said = last.as_ref().map(|(words, _)| format!("; its last words: {words}")).unwrap_or_default();
    if !seen.is_left_alone(now, waited) {
        return Link::NotYet(format!("no controller has taken the Ingress yet (class {}){said}", class_words(seen)));
    }
    let who = match &seen.controller {
        // Who has just spoken is there, however it was installed.
        _ if last.is_some_and(|(_, age)| age < SILENCE) => "the load balancer controller".to_owned(),
        Some(Controller::Found { name, ready, wanted: 1.. }) if seen.is_for_the_controller() => format!("{name} ({ready} ready)"),
        _ => return Link::broken(nobody(seen, now)),
    };
    Link::NotYet(format!("{who} is there, and has not taken the Ingress (class {}){said}", class_words(seen)))
}

/// Has it a hostname that the newest change left it? When a changed Ingress fails to build, its status keeps the old one.
pub fn hostname(seen: &Seen, now: Timestamp, waited: Duration) -> Link<String> {
    if let Some(broken) = refused(seen, now, waited) {
        return match broken {
            Link::Broken(fault) => Link::Broken(fault),
            Link::NotYet(reason) => Link::NotYet(reason),
            Link::Holds(..) => Link::NotYet("the Ingress has no hostname yet".to_owned()),
        };
    }
    let last = events::newest(&seen.events, seen.applied).map(|e| (seen.meaning(e), e));
    match (last, seen.hostname()) {
        (Some((Meaning::OfAnother(other), event)), _) => Link::NotYet(format!("{other} of the same group blocks it: {}", events::words(event))),
        (Some((Meaning::Transient, event)), _) => Link::NotYet(format!("the controller tries again: {}", events::words(event))),
        (_, None) => Link::NotYet("the Ingress has no hostname yet".to_owned()),
        (Some((Meaning::Reconciled, _)), Some(hostname)) => Link::holds(hostname.to_owned()),
        (_, Some(hostname)) => {
            // Events are kept for an hour or so: of an older change there are none.
            let age = seen.applied.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or(STALE);
            if age < UNANSWERED && waited < UNANSWERED {
                return Link::NotYet(format!(
                    "{hostname} is from before the change of {} ago, which the controller has not answered",
                    text::seconds(age)
                ));
            }
            Link::holds(hostname.to_owned())
        }
    }
}

/// A permanent refusal in the controller's newest event; an old one gets a moment to be replaced.
fn refused(seen: &Seen, now: Timestamp, waited: Duration) -> Option<Link<String>> {
    let event = events::newest(&seen.events, seen.applied)?;
    let Meaning::Permanent(advice) = seen.meaning(event) else { return None };
    let age = event.last.and_then(|last| Duration::try_from(now.duration_since(last)).ok()).unwrap_or_default();
    let words = events::words(event);
    if age > STALE && waited < STALE_GRACE {
        return Some(Link::NotYet(format!("{} ago the controller refused it: {words}", text::seconds(age))));
    }
    let before = event.before || event.last.zip(seen.applied).is_some_and(|(last, applied)| last < applied);
    if before && waited < JUST_BEFORE {
        return Some(Link::NotYet(format!("just before the last change the controller refused it: {words}")));
    }
    let fault = Fault::new(Code::AlbRefused, format!("the load balancer controller refuses {}: {}", seen.name, text::head(&words, 500)))
        .evidence(format!("event {}", event.reason), event.message.clone())
        .next(advice);
    Some(Link::broken(if age > STALE {
        fault.next(format!(
            "after the correction touch the Ingress, for the controller retries with long pauses: `kubectl -n {} annotate ingress {} meshstep.io/touched=\"$(date +%s)\" --overwrite`",
            seen.namespace, seen.name
        ))
    } else {
        fault
    }))
}

fn nobody(seen: &Seen, now: Timestamp) -> Fault {
    let class = class_words(seen);
    let mut fault = Fault::new(Code::NoController, format!("no load balancer controller takes the Ingress {} (class {class})", seen.name));
    match &seen.controller {
        Some(Controller::Found { name, wanted, .. }) if *wanted < 1 => fault.message += &format!(": {name} is scaled to 0"),
        Some(Controller::Unseen(why)) => fault = fault.evidence("whether a controller is there", format!("not known: {why}")),
        _ => {}
    }
    if let Some((words, age)) = seen.last_words(now) {
        fault = fault.evidence("the controller's last words", format!("{} ago: {words}", text::seconds(age)));
    }
    match (&seen.class, &seen.class_controller) {
        (None, _) => fault.next("give the Ingress a class: `spec.ingressClassName: alb`"),
        (Some(class), None) if class != "alb" => fault.next(format!("there is no IngressClass `{class}`: correct the name")),
        (Some(class), Some(controller)) if controller != "ingress.k8s.aws/alb" && !seen.is_auto_mode() => {
            fault.next(format!("class `{class}` belongs to {controller}, which builds no AWS load balancer: use the class of the load balancer controller"))
        }
        _ if seen.is_auto_mode() => fault.next("EKS Auto Mode knows neither the annotation `kubernetes.io/ingress.class` nor `group.name`: use `spec.ingressClassName` and IngressClassParams"),
        _ => fault.next("install the AWS Load Balancer Controller, or look at its log: `kubectl -n kube-system logs deploy/aws-load-balancer-controller`"),
    }
}

fn class_words(seen: &Seen) -> String {
    match (&seen.class, &seen.class_controller) {
        (None, _) => "none".to_owned(),
        (Some(class), None) => format!("`{class}`"),
        (Some(class), Some(controller)) => format!("`{class}` of {controller}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn seen(finalizer: Option<&str>, event: Option<(&str, &str, i64)>) -> Seen {
        Seen {
            namespace: "istio-system".into(),
            name: "gw-ingress".into(),
            finalizers: finalizer.into_iter().map(str::to_owned).collect(),
            class: Some("alb".into()),
            applied: Some(at(1000)),
            events: event
                .into_iter()
                .map(|(reason, message, last)| Event {
                    warning: reason != "SuccessfullyReconciled",
                    reason: reason.into(),
                    message: message.into(),
                    last: Some(at(last)),
                    before: false,
                })
                .collect(),
            ..Seen::default()
        }
    }

    fn says(link: &Link<String>) -> String {
        match link {
            Link::Holds(value, _) => format!("holds {value}"),
            Link::NotYet(reason) => format!("not yet {reason}"),
            Link::Broken(fault) => format!("{} {}", fault.code, fault.message),
        }
    }

    #[test]
    fn of_one_second_what_was_written_before_the_change_is_about_what_it_corrected() {
        let refused = ("FailedBuildModel", "Failed build model due to unknown scheme: public", 1000);
        for (before, waited, expected) in [(true, 2, "not yet just before"), (true, 3, "alb_refused"), (false, 0, "alb_refused")] {
            let mut seen = seen(Some("ingress.k8s.aws/resources"), Some(refused));
            seen.events[0].before = before;
            let link = accepted(&seen, at(1001), Duration::from_secs(waited));
            assert!(says(&link).starts_with(expected), "{}", says(&link));
        }
    }

    #[test]
    fn acceptance_is_judged() {
        let subnets = "Failed build model due to subnets count less than minimal required count: 1 < 2";
        let done = ("SuccessfullyReconciled", "Successfully reconciled", 1001);
        let refused = Some(("FailedAddFinalizer", "Failed add finalizer due to x", 1001));
        for (seen, now, waited, expected) in [
            (seen(None, None), 1001, 1, "not yet no controller has taken the Ingress yet (class `alb`)"),
            (seen(Some("ingress.k8s.aws/resources"), None), 1001, 1, "holds taken by the load balancer controller"),
            (seen(Some("group.ingress.k8s.aws/shop"), None), 1001, 1, "holds taken by the load balancer controller"),
            (seen(None, Some(done)), 1002, 1, "holds taken by the load balancer controller"),
            (seen(None, None), 1061, 61, "no_controller no load balancer controller takes the Ingress gw-ingress (class `alb`)"),
            (seen(None, None), 9000, 5, "not yet no controller has taken the Ingress yet (class `alb`)"),
            (seen(None, None), 9000, 21, "no_controller no load balancer controller takes the Ingress gw-ingress (class `alb`)"),
            (
                seen(None, refused),
                1002,
                2,
                "not yet no controller has taken the Ingress yet (class `alb`); its last words: Failed add finalizer due to x",
            ),
            (
                seen(None, refused),
                1060,
                61,
                "not yet the load balancer controller is there, and has not taken the Ingress (class `alb`); its last words: Failed add finalizer due to x",
            ),
            (seen(None, refused), 1062, 61, "no_controller no load balancer controller takes the Ingress gw-ingress (class `alb`)"),
            (
                seen(Some("ingress.k8s.aws/resources"), Some(("FailedBuildModel", subnets, 1001))),
                1002,
                1,
                "alb_refused the load balancer controller refuses gw-ingress: Failed build model due to subnets count less than minimal required count: 1 < 2",
            ),
            (
                seen(Some("ingress.k8s.aws/resources"), Some(("FailedBuildModel", subnets, 999))),
                1002,
                2,
                "not yet just before the last change the controller refused it: Failed build model due to subnets count less than minimal required count: 1 < 2",
            ),
            (
                seen(Some("ingress.k8s.aws/resources"), Some(("FailedBuildModel", subnets, 999))),
                1004,
                3,
                "alb_refused the load balancer controller refuses gw-ingress: Failed build model due to subnets count less than minimal required count: 1 < 2",
            ),
            (
                seen(Some("ingress.k8s.aws/resources"), Some(("FailedBuildModel", subnets, 900))),
                1002,
                1,
                "holds taken by the load balancer controller",
            ),
            (
                seen(None, Some(("FailedBuildModel", subnets, 1001))),
                1301,
                1,
                "not yet 5 min 0 s ago the controller refused it: Failed build model due to subnets count less than minimal required count: 1 < 2",
            ),
            (
                seen(None, Some(("FailedBuildModel", subnets, 1001))),
                1321,
                21,
                "alb_refused the load balancer controller refuses gw-ingress: Failed build model due to subnets count less than minimal required count: 1 < 2",
            ),
        ] {
            assert_eq!(says(&accepted(&seen, at(now), Duration::from_secs(waited))), expected);
        }
    }

    #[test]
    fn a_controller_that_is_there_is_waited_for() {
        let found = |ready, wanted| Controller::Found { name: "kube-system/lbc".into(), ready, wanted };
        let nobody = "no_controller no load balancer controller takes the Ingress gw-ingress (class";
        for (class, of, controller, expected) in [
            ("alb", None, found(0, 2), "not yet kube-system/lbc (0 ready) is there, and has not taken the Ingress (class `alb`)".to_owned()),
            ("web", Some("ingress.k8s.aws/alb"), found(2, 2), "not yet kube-system/lbc (2 ready) is there, and has not taken".to_owned()),
            ("alb", None, found(0, 0), format!("{nobody} `alb`): kube-system/lbc is scaled to 0")),
            ("alb", None, Controller::Missing, format!("{nobody} `alb`)")),
            ("alb", None, Controller::Unseen("may not".into()), format!("{nobody} `alb`)")),
            // Of a class that is another's, or that does not exist, it takes none.
            ("web", None, found(2, 2), format!("{nobody} `web`)")),
            ("nginx", Some("k8s.io/ingress-nginx"), found(2, 2), format!("{nobody} `nginx` of k8s.io/ingress-nginx)")),
            ("auto", Some("eks.amazonaws.com/alb"), found(2, 2), format!("{nobody} `auto` of eks.amazonaws.com/alb)")),
        ] {
            let class_controller = of.map(str::to_owned);
            let seen = Seen { class: Some(class.into()), class_controller, controller: Some(controller), ..seen(None, None) };
            let found = says(&accepted(&seen, at(1061), Duration::from_secs(61)));
            assert!(found.starts_with(&expected), "{found}");
        }
    }

    #[test]
    fn a_hostname_is_found_beside_a_network_load_balancer() {
        let mut seen = seen(Some("ingress.k8s.aws/resources"), None);
        assert_eq!(says(&hostname(&seen, at(1001), Duration::from_secs(1))), "not yet the Ingress has no hostname yet");
        seen.hostnames =
            vec!["front-0123456789abcdef.elb.eu-west-1.amazonaws.com".into(), "k8s-istiosys-gwingres-1-2.eu-west-1.elb.amazonaws.com".into()];
        assert_eq!(seen.hostname(), Some("k8s-istiosys-gwingres-1-2.eu-west-1.elb.amazonaws.com"));
        seen.hostnames = vec!["localhost".into()];
        assert_eq!(seen.hostname(), Some("localhost"));
    }

    #[test]
    fn a_hostname_from_before_the_change_is_not_believed() {
        let name = "k8s-old-1.eu-west-1.elb.amazonaws.com";
        let with = |event| Seen { hostnames: vec![name.into()], ..seen(Some("ingress.k8s.aws/resources"), event) };
        let done = |at| Some(("SuccessfullyReconciled", "Successfully reconciled", at));
        let failed = |at| Some(("FailedBuildModel", "Failed build model due to unknown scheme: public", at));
        let throttled = Some(("FailedDeployModel", "Failed deploy model due to Throttling: Rate exceeded", 1001));
        for (event, now, waited, expected) in [
            (None, 1001, 1, "not yet k8s-old-1.eu-west-1.elb.amazonaws.com is from before the change of 1.0 s ago"),
            (done(990), 1001, 1, "not yet k8s-old-1"),
            (failed(1001), 1002, 2, "alb_refused"),
            (throttled, 1002, 2, "not yet the controller tries again"),
            // Answered; or so long ago that the events are gone; or nothing comes.
            (done(1001), 1002, 2, "holds k8s-old-1"),
            (None, 9000, 1, "holds k8s-old-1"),
            (failed(900), 1031, 31, "holds k8s-old-1"),
        ] {
            let found = says(&hostname(&with(event), at(now), Duration::from_secs(waited)));
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn another_ingress_of_the_group_is_told_and_not_blamed_on_ours() {
        let seen = seen(None, Some(("FailedBuildModel", "Failed build model due to ingress: b/web: unable to find port 1 on service b/web", 1001)));
        assert!(says(&hostname(&seen, at(1002), Duration::from_secs(1))).starts_with("not yet the Ingress b/web of the same group blocks it"));
    }

    #[test]
    fn anothers_certificate_is_told_and_waited_for() {
        let unknown = "Failed deploy model due to x, CertificateNotFound: Certificate 'arn:aws:acm:b' not found";
        let of_group =
            Seen { certificates: "arn:aws:acm:a".into(), ..seen(Some("group.ingress.k8s.aws/shop"), Some(("FailedDeployModel", unknown, 1001))) };
        let found = says(&hostname(&of_group, at(1002), Duration::from_secs(1)));
        assert!(found.starts_with("not yet another Ingress of the same group blocks it: Failed deploy model"), "{found}");
        let ours = Seen { certificates: "arn:aws:acm:b".into(), ..of_group };
        assert!(says(&hostname(&ours, at(1002), Duration::from_secs(1))).starts_with("alb_refused"));
    }

    #[test]
    fn an_ingress_object_is_read() {
        let ingress = json!({
            "metadata": {
                "name": "gw-ingress", "namespace": "istio-system", "creationTimestamp": "2026-11-23T05:00:00Z",
                "annotations": {"kubernetes.io/ingress.class": "alb", "alb.ingress.kubernetes.io/certificate-arn": "arn:a"}, "finalizers": ["ingress.k8s.aws/resources"],
                "managedFields": [
                    {"manager": "helm", "time": "2026-11-23T05:10:00Z", "fieldsV1": {"f:spec": {}}},
                    {"manager": "controller", "time": "2026-11-23T06:00:00Z", "fieldsV1": {"f:metadata": {"f:finalizers": {}}}},
                    {"manager": "controller", "subresource": "status", "time": "2026-11-23T07:00:00Z", "fieldsV1": {"f:status": {}}},
                ],
            },
            "spec": {"rules": [{"http": {"paths": [{"backend": {"service": {"name": "istio-ingressgateway", "port": {"number": 80}}}}]}}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "x.elb"}]}},
        });
        let seen = Seen::of(&ingress);
        assert_eq!(seen.applied, "2026-11-23T05:10:00Z".parse().ok());
        assert_eq!(
            (seen.class.as_deref(), seen.hostname(), seen.backends.join(" ")),
            (Some("alb"), Some("x.elb"), "istio-ingressgateway".to_owned())
        );
        assert_eq!(seen.certificates, "arn:a");
    }
}
