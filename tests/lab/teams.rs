//! What the real controller makes of each team's values of the alb-istio-ingress chart.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Lab, Profile, eventually, kit};

pub(crate) fn each_gets_its_load_balancer() {
    let lab = Lab::up(Profile::Alb, &[]);
    let service = kit().join("app/gateway-service.yaml");
    lab.exec(&["kubectl", "apply", "-f", service.to_str().expect("UTF-8")]);

    let bi = balancer(&lab, "bi", &[]);
    assert_eq!((text(&bi, "Scheme"), listeners(&bi)), ("internet-facing", json!([[80, "HTTP", "fixed-response"]])));
    assert_eq!(bi["Tags"]["ingress.k8s.aws/stack"], "istio-system/gw-ingress");
    // 30080 and 30021 are the node ports of http2 and status-port: the name in the annotation was resolved
    let group = &bi["TargetGroups"][0];
    let check = ["TargetType", "Port", "HealthCheckProtocol", "HealthCheckPort", "HealthCheckPath"].map(|key| group[key].clone());
    assert_eq!(json!(check), json!(["instance", 30080, "HTTP", "30021", "/healthz/ready"]));

    let certificate = format!("certificateArns={{{}}}", text(&lab.account(), "cert"));
    let dpl = balancer(&lab, "dpl", &["--set", &certificate]);
    assert_ne!(text(&bi, "DNSName"), text(&dpl, "DNSName"), "joining a group means another load balancer");
    assert_eq!(listeners(&dpl), json!([[80, "HTTP", "redirect"], [443, "HTTPS", "fixed-response"]]));
    assert_eq!(dpl["Tags"]["ingress.k8s.aws/stack"], "dpl");

    // subnets are for internal load balancers only when they are tagged so
    lab.aws(&format!(
        "out = aws('ec2').create_tags(Resources={}, Tags=[dict(Key='kubernetes.io/role/internal-elb', Value='1')])",
        lab.account()["subnets"]
    ));
    let protocol = balancer(&lab, "protocol", &[]);
    assert_eq!((text(&protocol, "Scheme"), &protocol["Attributes"]["idle_timeout.timeout_seconds"]), ("internal", &json!("120")));
}

/// Gives the release a team's values; the one load balancer that is there when the controller is done, and that the Ingress names.
fn balancer(lab: &Lab, team: &str, more: &[&str]) -> Value {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/mesh/alb-istio-helm");
    let values = chart.join(format!("values-{team}.yaml"));
    let words = ["helm", "upgrade", "--install", "alb-istio-ingress", chart.to_str().expect("UTF-8"), "--namespace", "istio-system", "--values"];
    lab.exec(&[&words[..], &[values.to_str().expect("UTF-8")], more].concat());
    eventually(Duration::from_secs(20), team, || {
        let (named, all) = (lab.address(), lab.balancers());
        match all.as_slice() {
            [one] if text(one, "DNSName") == named && one["Tags"]["team"] == team => Ok(one.clone()),
            other => Err(format!("the Ingress names {named:?}, there are {other:?}")),
        }
    })
}

/// `[port, protocol, default action]` of each listener, by port.
fn listeners(balancer: &Value) -> Value {
    balancer["Listeners"].as_array().into_iter().flatten().map(|l| json!([l["Port"], l["Protocol"], l["DefaultActions"][0]["Type"]])).collect()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}
