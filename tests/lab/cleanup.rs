//! Cleanup on real parts: the mesh with its load balancer is made, taken away in order, and nothing of it is left in the cluster or in AWS.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::shop::Shop;
use crate::support::{Lab, Profile, eventually};

const KINDS: &str = "deployments,services,configmaps,serviceaccounts,ingresses,roles,rolebindings,clusterroles,clusterrolebindings,\
                     mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions,targetgroupbindings,namespaces";

pub(crate) fn leaves_nothing() {
    let lab = Lab::up(Profile::Full, &[]);
    let shop = Shop::copy(&lab);
    let before = (objects(&lab), in_aws(&lab));
    shop.run(&lab, "helm", &["--only", "mesh,releases,ingress"]).exits(0);
    assert!(in_aws(&lab).iter().any(|item| item.starts_with("load balancer")));

    let cluster = lab.env("LAB_CLUSTER").to_owned();
    shop.command(&lab, "helm", "cleanup", &["--yes", "another-cluster"]).exits(2);
    let first = shop.command(&lab, "helm", "cleanup", &["--yes", &cluster]).exits(0);
    println!("   cleanup {:.1} s", first.took.as_secs_f64());
    // istiod's ConfigMaps in other namespaces, and the namespaces that `mesh.inject` made with what every namespace has: named by the cleanup.
    let known =
        |object: &&String| object.contains("istio-ca-") || object.contains("prod/") || object.ends_with("/pre-prod") || object.ends_with("/prod");
    let left: Vec<String> = objects(&lab).difference(&before.0).filter(|object| !known(object)).cloned().collect();
    assert!(left.is_empty(), "left in the cluster: {left:?}\n{}", first.text);
    eventually(Duration::from_secs(5), "AWS", || {
        let left: Vec<String> = in_aws(&lab).difference(&before.1).cloned().collect();
        // What the controller is known to forget is named by the cleanup, with the command.
        let told = left.iter().all(|item| item.starts_with("security group k8s-traffic-") && first.text.contains("the controller left its"));
        if told { Ok(()) } else { Err(format!("left in AWS: {left:?}\n{}", first.text)) }
    });

    let second = shop.command(&lab, "helm", "cleanup", &["--yes", &cluster]).exits(0);
    assert!(second.text.contains("nothing was there"), "{}", second.text);
}

fn objects(lab: &Lab) -> BTreeSet<String> {
    let names = |object: serde_json::Value| {
        let text = |pointer: &str| object.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
    };
    lab.items(&[KINDS, "-A"]).into_iter().map(names).collect()
}

fn in_aws(lab: &Lab) -> BTreeSet<String> {
    const LOOK: &str = r#"
elb = aws("elbv2")
out = ["load balancer " + b["LoadBalancerName"] for b in elb.describe_load_balancers()["LoadBalancers"]]
out += ["target group " + g["TargetGroupName"] for g in elb.describe_target_groups()["TargetGroups"]]
out += ["security group " + g["GroupName"] for g in aws("ec2").describe_security_groups()["SecurityGroups"]]
"#;
    let found = lab.aws(LOOK);
    found.as_array().expect("a list").iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
