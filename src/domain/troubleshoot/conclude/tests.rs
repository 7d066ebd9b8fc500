//! One line for each pair of answers.

use super::*;

fn reply(status: u16, server: &str, upstream: bool, body: &str) -> Said {
    let mut headers = vec![("server".to_owned(), server.to_owned())];
    if upstream {
        headers.push(("x-envoy-upstream-service-time".to_owned(), "1".to_owned()));
    }
    Said::Answer(Reply { status, headers, body: body.to_owned(), took_ms: 1 })
}

fn app(status: u16) -> Said {
    reply(status, "istio-envoy", true, "from the app")
}

fn envoy(status: u16, body: &str) -> Said {
    reply(status, "istio-envoy", false, body)
}

fn elb(status: u16) -> Said {
    reply(status, "awselb/2.0", false, &if status == 404 { String::new() } else { format!("<center><h1>{status} x</h1></center>") })
}

fn plain(status: u16) -> Said {
    Said::Answer(Reply { status, body: "from the app".into(), ..Reply::default() })
}

const UPSTREAM: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure";

fn facts() -> Facts {
    Facts {
        host: "app1.example".into(),
        service: "app1".into(),
        namespace: "prod".into(),
        port: 8000,
        balancer: app(200),
        node: app(200),
        status: plain(200),
        plain: plain(200),
        strict: None,
        behind: Behind {
            service_exists: true,
            port_exists: true,
            selector: "app=app1".into(),
            selected: 1,
            ready: 1,
            target: Some(8080),
            declared: true,
            has_sidecar: true,
            ..Behind::default()
        },
        gateways_ready: 1,
        connections: None,
        certificate: None,
    }
}

#[test]
fn each_pair_of_answers_has_its_place() {
    let f = facts;
    let behind = |change: fn(&mut Behind)| {
        let mut behind = facts().behind;
        change(&mut behind);
        behind
    };
    let strict = || Some("istio-system/default".to_owned());
    let broken = || Facts { balancer: envoy(503, UPSTREAM), node: envoy(503, UPSTREAM), ..facts() };
    let no_pod = || Facts { balancer: envoy(503, "no healthy upstream"), node: envoy(503, "no healthy upstream"), ..facts() };
    for (facts, place, words) in [
        (f(), Place::Nowhere, "answers through the load balancer"),
        // a 404 of the app is an answer of the app
        (Facts { balancer: app(404), ..f() }, Place::Nowhere, "404"),
        // inside all is well
        (Facts { balancer: Said::Unresolved, ..f() }, Place::Dns, "does not resolve"),
        (Facts { balancer: Said::Unasked("no Ingress".into()), ..f() }, Place::Balancer, "no Ingress"),
        (Facts { balancer: Said::Refused, ..f() }, Place::Balancer, "no listener"),
        (Facts { balancer: Said::Timeout, ..f() }, Place::Balancer, "no answer to this agent"),
        (Facts { balancer: Said::Unreached("it is internal".into()), ..f() }, Place::Unknown, "answers it inside the cluster; it is internal"),
        (Facts { balancer: elb(404), ..f() }, Place::Balancer, "no rule"),
        (Facts { balancer: elb(503), ..f() }, Place::Balancer, "no target"),
        (Facts { balancer: elb(502), ..f() }, Place::Balancer, "no target"),
        (Facts { balancer: elb(504), ..f() }, Place::Node, "do not reach the nodes"),
        (Facts { balancer: reply(503, "awselb/2.0", false, "back at noon"), ..f() }, Place::Balancer, "a fixed response (503)"),
        (
            Facts { balancer: reply(503, "awselb/2.0", false, "Backend service does not exist"), ..f() },
            Place::Balancer,
            "without the gateway's Service",
        ),
        // the node port gives nothing
        (Facts { balancer: elb(502), node: Said::Refused, ..f() }, Place::Gateway, "no Gateway object"),
        (Facts { balancer: elb(502), node: Said::Refused, status: Said::Refused, ..f() }, Place::Gateway, "lead to no gateway pod"),
        (Facts { balancer: elb(502), node: Said::Refused, status: Said::Refused, gateways_ready: 0, ..f() }, Place::Gateway, "no pod of the gateway"),
        (Facts { balancer: elb(504), node: Said::Timeout, status: Said::Timeout, ..f() }, Place::Node, "no port of the node"),
        (Facts { balancer: elb(504), node: Said::Timeout, ..f() }, Place::Gateway, "does not answer this request"),
        (Facts { balancer: elb(502), node: Said::Reset, ..f() }, Place::Gateway, "expects TLS"),
        // the gateway answers itself
        (Facts { balancer: envoy(404, ""), node: envoy(404, ""), ..f() }, Place::Gateway, "no route"),
        (Facts { balancer: envoy(403, "RBAC: access denied"), node: envoy(403, "RBAC: access denied"), ..f() }, Place::Mesh, "AuthorizationPolicy"),
        // the app answers, wrongly
        (Facts { balancer: app(500), node: app(500), plain: plain(500), ..f() }, Place::App, "and so it does when it is asked directly"),
        (Facts { balancer: app(500), node: app(500), plain: Said::Reset, strict: strict(), ..f() }, Place::App, "itself answers 500"),
        (
            Facts { balancer: reply(503, "istio-envoy", true, UPSTREAM), node: reply(503, "istio-envoy", true, UPSTREAM), ..f() },
            Place::App,
            "does not listen",
        ),
        // behind the gateway
        (Facts { behind: Behind::default(), ..no_pod() }, Place::Service, "there is no Service"),
        (Facts { behind: behind(|b| b.port_exists = false), ..broken() }, Place::Service, "has no port 8000"),
        (Facts { behind: behind(|b| (b.selected, b.ready) = (0, 0)), ..no_pod() }, Place::Service, "selects no pod"),
        (Facts { behind: behind(|b| b.ready = 0), ..no_pod() }, Place::App, "no pod of app1 in prod is ready"),
        (Facts { certificate: Some("its root is another".into()), ..broken() }, Place::Mesh, "do not trust each other"),
        (broken(), Place::Mesh, "without TLS they answer 200"),
        (Facts { plain: plain(500), ..broken() }, Place::App, "itself answers 500"),
        (Facts { plain: Said::Refused, ..broken() }, Place::App, "does not listen on 8080"),
        (Facts { plain: Said::Refused, behind: behind(|b| b.declared = false), ..broken() }, Place::Service, "no container of its pods declares"),
        (
            Facts { plain: envoy(503, UPSTREAM), behind: behind(|b| b.declared = false), ..broken() },
            Place::Service,
            "no container of its pods declares",
        ),
        (Facts { plain: Said::Timeout, ..broken() }, Place::App, "does not answer within the time"),
        (Facts { plain: Said::Unresolved, ..broken() }, Place::Dns, "inside the cluster"),
        // under STRICT the reset says nothing about the app
        (Facts { plain: Said::Reset, strict: strict(), ..broken() }, Place::Mesh, "STRICT"),
        (Facts { plain: Said::Reset, strict: strict(), behind: behind(|b| b.declared = false), ..broken() }, Place::Service, "no container"),
        // and one that got through all the same is no proof either
        (Facts { plain: plain(200), strict: strict(), ..broken() }, Place::Mesh, "STRICT"),
        // without STRICT it does
        (Facts { plain: Said::Reset, ..broken() }, Place::Mesh, "asked directly"),
        (Facts { balancer: elb(502), node: Said::Failed("curl: (35) odd".into()), ..f() }, Place::Unknown, "odd"),
        (Facts { balancer: envoy(503, UPSTREAM), ..f() }, Place::Unknown, "through the load balancer comes 503"),
    ] {
        let conclusion = conclude(&facts);
        assert_eq!(conclusion.place, place, "{conclusion:?}\n{facts:?}");
        assert!(conclusion.words.contains(words), "`{words}` in {conclusion:?}");
        assert!(place == Place::Nowhere || !conclusion.next.is_empty(), "{conclusion:?}");
    }
}

#[test]
fn the_gateways_own_counters_are_told_only_when_they_accuse() {
    let with = |made, failed| {
        let node = envoy(503, UPSTREAM);
        conclude(&Facts { balancer: node.clone(), node, connections: Some(Connections { pods: 1, made, failed }), ..facts() }).words
    };
    assert!(with(3, 3).contains("3 failed"));
    assert!(!with(9, 1).contains("failed"));
}
