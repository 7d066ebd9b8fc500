//! Admission webhooks other than Istio's own: the sandbox plays that they cannot be reached or are not trusted, not their answers.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::sandbox::controllers::{MUTATING, NAMESPACES, SERVICES, VALIDATING, endpoints};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{label, list, number, text};
use crate::sandbox::store::{Review, Status};

/// Asks each webhook that wants to see a new object.
pub(super) fn call(sim: &Sim, review: &Review<'_>, object: &Value) -> Result<(), Status> {
    for configuration in [MUTATING, VALIDATING].iter().flat_map(|kind| sim.store.list(kind, "")) {
        // what istiod registers is played where sidecars are injected
        if ["sidecar-injector", "istiod"].iter().any(|app| label(&configuration, "app") == Some(app)) {
            continue;
        }
        for hook in list(&configuration, "/webhooks").iter().filter(|hook| wants(sim, hook, review, object)) {
            match reach(sim, hook) {
                Err(why) if text(hook, "/failurePolicy") != "Ignore" => {
                    let why = format!("failed calling webhook {:?}: failed to call webhook: {why}", text(hook, "/name"));
                    return Err(Status::internal(format!("Internal error occurred: {why}")));
                }
                Ok(()) => return Err(Status::internal(format!("the sandbox does not play what the webhook {:?} answers", text(hook, "/name")))),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

fn wants(sim: &Sim, hook: &Value, review: &Review<'_>, object: &Value) -> bool {
    let has = |rule: &Value, key: &str, value: &str| list(rule, key).iter().any(|v| v == "*" || v == value);
    let rule = |rule: &Value| {
        has(rule, "/operations", "CREATE") && has(rule, "/apiGroups", &review.resource.group) && has(rule, "/resources", &review.resource.plural)
    };
    let namespace = sim.store.get(NAMESPACES, "", review.namespace);
    let of_namespace = namespace.as_ref().map_or(review.namespace.is_empty(), |ns| matches(&hook["namespaceSelector"], ns));
    list(hook, "/rules").iter().any(rule) && of_namespace && matches(&hook["objectSelector"], object)
}

fn matches(selector: &Value, object: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().is_none_or(|wanted| wanted.iter().all(|(key, value)| label(object, key) == value.as_str()));
    let holds = |expression: &Value| {
        let own = label(object, text(expression, "/key"));
        let among = own.is_some_and(|own| list(expression, "/values").iter().any(|value| value == own));
        match text(expression, "/operator") {
            "In" => among,
            "NotIn" => !among,
            "Exists" => own.is_some(),
            _ => own.is_none(),
        }
    };
    equal && list(selector, "/matchExpressions").iter().all(holds)
}

/// Why it cannot be asked, in the API server's words.
fn reach(sim: &Sim, hook: &Value) -> Result<(), String> {
    let config = &hook["clientConfig"];
    let seconds = number(hook, "/timeoutSeconds").unwrap_or(10);
    let post = |url: &str, why: &str| format!("Post \"{url}?timeout={seconds}s\": {why}");
    let service = &config["service"];
    if !service.is_null() {
        let (name, ns) = (text(service, "/name"), text(service, "/namespace"));
        let url = format!("https://{name}.{ns}.svc:{}{}", number(service, "/port").unwrap_or(443), text(service, "/path"));
        let Some(found) = sim.store.get(SERVICES, ns, name) else { return Err(post(&url, &format!("service {name:?} not found"))) };
        let none = list(&found, "/spec/ports").iter().all(|port| endpoints(sim, &found, port).is_empty());
        return if none { Err(post(&url, &format!("no endpoints available for service {name:?}"))) } else { Ok(()) };
    }
    let url = text(config, "/url");
    let parsed = url::Url::parse(url).map_err(|error| error.to_string())?;
    let address = (parsed.host_str().unwrap_or_default(), parsed.port_or_known_default().unwrap_or(443));
    let target = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    let Some(target) = target else { return Err(post(url, &format!("dial tcp: lookup {}: no such host", address.0))) };
    match TcpStream::connect_timeout(&target, Duration::from_millis(500)) {
        Err(_) => Err(post(url, &format!("dial tcp {target}: connect: connection refused"))),
        Ok(_) => Err(post(url, "tls: failed to verify certificate: x509: certificate signed by unknown authority")),
    }
}
