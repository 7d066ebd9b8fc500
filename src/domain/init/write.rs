//! A draft as the text of a pipeline file: in the order of the runbook, with a comment where a person must decide.

use std::fmt::Write;

use crate::domain::init::draft::{ClusterLine, Draft, ReleaseDraft, ServiceDraft, Source};
use crate::domain::routes::Entry;

const TO_DO: &str = "# TODO:";

/// `schema`: how the file names its JSON Schema for editors.
pub fn text(draft: &Draft, schema: &str) -> String {
    let mut out = format!("# yaml-language-server: $schema={schema}\n#\n# Written by `meshstep init`. What it could not know stands after `TODO`; ");
    out.push_str("`meshstep validate` checks the file,\n# `meshstep run --sandbox` plays it on a simulated cluster, ");
    out.push_str("`meshstep doctor` looks at the real one.\n");
    let mut put = |text: String| out.push_str(&text);
    put(format!("version: 1\nname: {}\n", quoted(&draft.name)));
    put("environment: default # first segment of every class name in the JUnit reports: staging, production\n".to_owned());
    put(cluster(&draft.cluster));
    put(mesh(draft));
    put(services(&draft.services));
    if let Some((path, entries)) = &draft.routes {
        put(format!("\nroutes:\n  values: {}\n", quoted(path)));
        put("  upsert: # as the values file has them now: what stands here is brought into it, everything else there stays\n".to_owned());
        entries.iter().for_each(|entry| put(route(entry)));
    }
    put(releases(&draft.releases));
    if let Some((name, namespace)) = &draft.ingress {
        put(format!("\ningress: {{name: {}, namespace: {}}}\n", quoted(name), quoted(namespace)));
    }
    if draft.routes.is_some() {
        put("\nverify:\n  hosts: from-routes # every public host of the values file with its prefixes\n".to_owned());
        put("  # checks: [{host: HOST, path: /, status: 200, body-contains: ok, within: 2s}]\n".to_owned());
        put("\nredeploy: {when: certificate-fault, method: restart, approve: auto, max-workloads: 5}\n".to_owned());
    }
    put("\nlock: {namespace: default} # two runs never change the cluster at once\n".to_owned());
    if !draft.left.is_empty() {
        put("\n# Found, and not used here:\n".to_owned());
        draft.left.iter().for_each(|words| put(format!("# - {words}\n")));
    }
    out
}

fn cluster(line: &ClusterLine) -> String {
    match line {
        ClusterLine::Context(context) => format!("cluster: {{context: {}}}\n", quoted(context)),
        ClusterLine::Eks { name, region } => {
            let open: Vec<&str> =
                [("its name", name), ("its Region", region)].into_iter().filter(|(_, known)| known.is_none()).map(|(what, _)| what).collect();
            let hint = if open.is_empty() { String::new() } else { format!(" {TO_DO} {} (`aws eks list-clusters`)", open.join(" and ")) };
            let (name, region) = (name.as_deref().unwrap_or("my-cluster"), region.as_deref().unwrap_or("us-east-1"));
            format!("cluster: {{name: {}, region: {}}}{hint}\n", quoted(name), quoted(region))
        }
    }
}

fn mesh(draft: &Draft) -> String {
    let mut out = "\nmesh:\n  profile: default\n  set:\n".to_owned();
    if draft.gateway_type == "NodePort" {
        out.push_str("    # the load balancer's targets are the nodes, so the gateway needs a port on each of them\n");
    }
    let _ = writeln!(out, "    values.gateways.istio-ingressgateway.type: {}", quoted(&draft.gateway_type));
    if draft.inject.is_empty() {
        let _ = writeln!(out, "  inject: [] {TO_DO} the namespaces whose pods get a sidecar");
    } else {
        out.push_str("  inject: # namespaces whose pods get a sidecar\n");
    }
    for (name, create) in &draft.inject {
        let _ = if *create { writeln!(out, "    - {{name: {}, create: true}}", quoted(name)) } else { writeln!(out, "    - {}", quoted(name)) };
    }
    for (key, path, what) in [("common", &draft.common, "settings of the whole mesh"), ("gateway", &draft.gateway, "the Gateway")] {
        let _ = match path {
            Some(path) => writeln!(out, "  {key}: {}", quoted(path)),
            None => writeln!(out, "  # {key}: mesh/{key}.yaml # {what}: none was found"),
        };
    }
    out
}

fn services(services: &[ServiceDraft]) -> String {
    if services.is_empty() {
        return format!("\n{TO_DO} services: none was found; one is `- {{name: app1-service, chart: charts/service, namespaces: [prod]}}`\n");
    }
    let mut out = "\nservices:\n".to_owned();
    for service in services {
        let _ = writeln!(out, "  - name: {}", quoted(&service.name));
        let _ = match &service.source {
            Source::Chart(path) => writeln!(out, "    chart: {}", quoted(path)),
            Source::Manifests(path) => writeln!(out, "    manifests: {}", quoted(path)),
        };
        let _ = match &service.image {
            Some(image) => writeln!(out, "    image: {} # a job fills the tag in: write `:${{TAG}}`, and run with --var TAG=…", quoted(image)),
            None => writeln!(out, "    # image: registry.example/{}:${{TAG}} {TO_DO} what runs afterwards is proven to be this", service.name),
        };
        out.push_str("    namespaces: # in this order; the next only after the one before is proven\n");
        for placed in &service.placed {
            let values: Vec<String> = placed.values.iter().map(|path| quoted(path)).collect();
            let _ = if values.is_empty() {
                writeln!(out, "      - {}", quoted(&placed.namespace))
            } else {
                writeln!(out, "      - {{name: {}, values: [{}]}}", quoted(&placed.namespace), values.join(", "))
            };
        }
        out.push_str("    timeout: 5m\n");
    }
    out
}

fn route(entry: &Entry) -> String {
    let mut out = format!("    - virtualName: {}\n      name: {}\n      port: {}\n", quoted(&entry.virtual_name), quoted(&entry.name), entry.port);
    out.push_str("      namespaces:\n");
    for namespace in &entry.namespaces {
        let hosts: Vec<String> = namespace.hosts.iter().map(|host| quoted(host)).collect();
        let _ = writeln!(out, "        - name: {}\n          hosts: [{}]", quoted(&namespace.name), hosts.join(", "));
    }
    if let Some(prefixes) = &entry.prefixes {
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| quoted(prefix)).collect();
        let _ = writeln!(out, "      prefixes: [{}]", prefixes.join(", "));
    }
    out
}

fn releases(releases: &[ReleaseDraft]) -> String {
    if releases.is_empty() {
        return String::new();
    }
    let mut out = "\nreleases:\n".to_owned();
    for release in releases {
        let values: Vec<String> = release.values.iter().map(|path| quoted(path)).collect();
        let _ = writeln!(out, "  - name: {}\n    chart: {}", quoted(&release.name), quoted(&release.chart));
        if !values.is_empty() {
            let _ = writeln!(out, "    values: [{}]", values.join(", "));
        }
        let _ = writeln!(out, "    namespace: {}", quoted(&release.namespace));
        if let Some(team) = &release.team {
            let others = match release.other_teams.as_slice() {
                [] => String::new(),
                others => format!(" {TO_DO} this team, or {}: one Ingress carries one team's values at a time", others.join(" or ")),
            };
            let _ = writeln!(out, "    team: {}{others}", quoted(team));
        }
    }
    out
}

/// A text as YAML reads it back, plain where that is safe in a flow collection, too.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@".contains(c))
        && !text.ends_with(':')
        && text.chars().any(|c| c.is_ascii_alphanumeric() || text == "/")
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text.replace("${", "$${")).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back_as_they_were() {
        for (text, written) in [
            ("charts/service", "charts/service"),
            ("registry.example:5000/app1:1.4.2", "registry.example:5000/app1:1.4.2"),
            ("/", "/"),
            ("*.public.domain", "\"*.public.domain\""),
            ("1.5", "\"1.5\""),
            ("no", "\"no\""),
            ("a b: c # d", "\"a b: c # d\""),
            ("", "\"\""),
            ("...", "\"...\""),
            ("a${B}", "\"a$${B}\""),
        ] {
            assert_eq!(quoted(text), written);
            let back: String = serde_saphyr::from_str(&quoted(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(back.replace("$${", "${"), text);
        }
    }
}
