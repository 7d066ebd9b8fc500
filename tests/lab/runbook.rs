//! The whole runbook on real parts: the shop of `pipelines/`, from an empty cluster to answers through the load balancer, and again.

use serde_json::Value;

use crate::shop::Shop;
use crate::support::{Lab, Profile};

pub(crate) fn with_helm_4() {
    runbook("helm");
}

pub(crate) fn with_helm_3() {
    runbook("helm3");
}

fn runbook(helm: &str) {
    let lab = Lab::up(Profile::Full, &[]);
    let shop = Shop::copy(&lab);

    // Nothing is there yet: a dry run says what would change, and changes nothing.
    shop.run(&lab, helm, &["--dry-run"]).exits(0);
    assert!(lab.try_exec(&["kubectl", "get", "namespace", "istio-system"]).is_err(), "the dry run made something");

    let first = shop.run(&lab, helm, &[]).exits(0);
    println!("   first run {:.1} s", first.took.as_secs_f64());
    shop.assert_reports();
    shop.assert_answers(&lab);

    // Again: nothing changes.
    let before = state(&lab);
    let second = shop.run(&lab, helm, &[]).exits(0);
    println!("   second run {:.1} s", second.took.as_secs_f64());
    assert!(second.text.contains("nothing changed"), "{}", second.text);
    assert_eq!(before, state(&lab), "the second run changed something:\n{}", second.text);
    shop.assert_answers(&lab);
}

/// What a run that changes nothing leaves as it is: pods, releases, and the generation of everything the runbook makes.
fn state(lab: &Lab) -> Vec<String> {
    let kinds = "pods,deployments.apps,services,serviceaccounts,secrets,ingresses,virtualservices,gateways.networking.istio.io,peerauthentications,telemetries";
    let mut state: Vec<String> = ["istio-system", "pre-prod", "prod"]
        .iter()
        .flat_map(|namespace| lab.items(&[kinds, "-n", namespace]))
        .map(|object| {
            let meta = &object["metadata"];
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!(
                "{} {}/{} {} generation {}",
                text(&object["kind"]),
                text(&meta["namespace"]),
                text(&meta["name"]),
                text(&meta["uid"]),
                meta["generation"]
            )
        })
        .collect();
    state.sort();
    state
}
