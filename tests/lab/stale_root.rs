//! The certificate incident, made as the runbook's own cleanup makes it: Istio and its namespace are removed and installed again,
//! so that the running workloads keep certificates of a root that nobody trusts any more.

use crate::shop::Shop;
use crate::support::{Lab, Profile};

pub(crate) fn after_a_reinstall() {
    let lab = Lab::up(Profile::Full, &[]);
    let shop = Shop::copy(&lab);
    shop.run(&lab, "helm", &[]).exits(0);
    let before = restarts(&lab);
    assert_eq!(before.len(), 6);

    lab.exec(&["istioctl", "uninstall", "--purge", "-y"]);
    lab.exec(&["kubectl", "delete", "namespace", "istio-system", "--timeout=60s"]);

    // Everything is made again; the hosts answer 503 until the stale workloads are restarted, each once.
    let cured = shop.run(&lab, "helm", &["--fail-on-repair"]).exits(5);
    println!("   found and repaired in {:.1} s", cured.took.as_secs_f64());
    for app in 1..=3 {
        for host in [format!("app{app}.example.com"), format!("app{app}-pre.example.com")] {
            let seen = format!("GET {host}/ answered 503 by the gateway");
            assert!(cured.text.contains(&seen), "the incident was not seen at {host}:\n{}", cured.text);
        }
    }
    shop.assert_answers(&lab);
    for (workload, generation) in restarts(&lab) {
        let old = before.iter().find(|(name, _)| *name == workload).map(|(_, generation)| *generation);
        assert_eq!(old, Some(generation - 1), "{workload} was not restarted exactly once:\n{}", cured.text);
    }

    // Nothing is left to repair.
    let quiet = shop.run(&lab, "helm", &["--fail-on-repair"]).exits(0);
    assert!(quiet.text.contains("nothing changed"), "{}", quiet.text);
    println!("   again {:.1} s", quiet.took.as_secs_f64());
}

/// The shop's Deployments with their generations.
fn restarts(lab: &Lab) -> Vec<(String, i64)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    ["pre-prod", "prod"]
        .iter()
        .flat_map(|namespace| lab.items(&["deployments.apps", "-n", namespace]))
        .map(|object| {
            let meta = &object["metadata"];
            (format!("{}/{}", text(&meta["namespace"]), text(&meta["name"])), meta["generation"].as_i64().unwrap_or_default())
        })
        .collect()
}
