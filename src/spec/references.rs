//! What the types cannot say: names that must be unique or well-formed, and sections that need each other. No look at other files.

use std::collections::HashMap;

use regex::Regex;

use crate::base::finding::{Finding, Level};
use crate::base::names::{is_cluster_host, is_dns_label};
use crate::base::place::Places;
use crate::base::text::nearest;
use crate::base::yaml::{Node, Source, pointer};
use crate::domain::routes::Listed;
use crate::domain::routes::check::{check_entries, check_host};
use crate::spec::places;
use crate::stages::connect::Cluster;
use crate::stages::deploy::tolerate::Tolerate;
use crate::stages::deploy::{Service, ServiceNamespace};
use crate::stages::mesh::InjectNamespace;
use crate::stages::redeploy::Method;
use crate::stages::verify::{HostSource, Scheme};
use crate::stages::{Pipeline, Seconds};

const LABEL: &str = "use lower-case letters, digits and `-`, at most 63, not `-` at an end";

/// Helm's limit for the name of a release.
const RELEASE_NAME: usize = 53;

pub(super) struct References<'a> {
    source: &'a Source,
    tree: &'a Node,
    findings: Vec<Finding>,
}

/// All findings about one valid tree and what was read from it.
pub(super) fn check(pipeline: &Pipeline, source: &Source, tree: &Node, places: &Places) -> Vec<Finding> {
    let mut check = References { source, tree, findings: Vec::new() };
    check.names(pipeline);
    check.cluster(&pipeline.cluster);
    check.empty_sections();
    check.durations(pipeline);
    check.mesh(pipeline);
    check.services(&pipeline.services);
    check.releases(pipeline);
    check.routes(pipeline, places);
    check.verify(pipeline);
    check.redeploy(pipeline);
    check.findings
}

impl References<'_> {
    fn error(&mut self, at: &str, message: impl AsRef<str>, hint: impl AsRef<str>) {
        let span = self.span(at);
        self.findings.push(self.source.error(&span, message).hint(hint));
    }

    fn warn(&mut self, at: &str, message: impl AsRef<str>, hint: impl AsRef<str>) {
        let span = self.span(at);
        self.findings.push(self.source.warning(&span, message).hint(hint));
    }

    /// The value, or the key of one that is written in the lines below.
    fn span(&self, at: &str) -> std::ops::Range<usize> {
        let node = places::find(self.tree, at);
        let (parent, key) = at.rsplit_once('/').unwrap_or_default();
        let key = places::find(self.tree, parent).entry(key).filter(|_| node.is_block_collection() || node.span.is_empty());
        key.map_or_else(|| node.span.clone(), |(key, _)| key.span.clone())
    }

    fn label(&mut self, at: &str, name: &str, of: &str) {
        if !is_dns_label(name) {
            self.error(at, format!("`{name}` is no name of {of}"), LABEL);
        }
    }

    fn unique<'n>(&mut self, names: impl IntoIterator<Item = (String, &'n str)>, what: &str) {
        let mut seen: HashMap<&str, String> = HashMap::new();
        for (at, name) in names {
            if let Some(first) = seen.insert(name, at.clone()) {
                let (here, there) = (self.span(&at), self.span(&first));
                let finding = self.source.error(&here, format!("{what} `{name}` is given twice"));
                let finding = finding.also(self.source.place(there.start), "first given here", self.source.mark(&there));
                self.findings.push(finding.hint("rename or remove one of them"));
            }
        }
    }

    fn names(&mut self, pipeline: &Pipeline) {
        for (at, name) in [("/name", &pipeline.name), ("/environment", &pipeline.environment)] {
            if name.is_empty() || name.len() > 63 || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
                self.error(
                    at,
                    format!("`{name}` cannot be a part of a test's class name"),
                    "use letters, digits, `_` and `-`, at most 63; a dot would split it",
                );
            }
        }
        if let Some(lock) = &pipeline.lock {
            self.label("/lock/namespace", &lock.namespace, "a namespace");
        }
    }

    fn cluster(&mut self, cluster: &Cluster) {
        match cluster {
            Cluster::Eks(eks) => {
                let name_ok = eks.name.len() <= 100 && eks.name.starts_with(|c: char| c.is_ascii_alphanumeric());
                if !name_ok || !eks.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
                    self.error(
                        "/cluster/name",
                        format!("`{}` is no name of an EKS cluster", eks.name),
                        "use the name that `aws eks list-clusters` shows",
                    );
                }
                let parts: Vec<&str> = eks.region.split('-').collect();
                let words = parts.len() >= 3 && parts[..parts.len() - 1].iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()));
                if !words || !parts.last().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
                    self.error("/cluster/region", format!("`{}` is no AWS Region", eks.region), "write it as in `ap-southeast-1`");
                }
                if let Some(arn) =
                    eks.role_arn.as_deref().filter(|arn| !(arn.starts_with("arn:aws") && arn.contains(":iam::") && arn.contains(":role/")))
                {
                    self.error(
                        "/cluster/role-arn",
                        format!("`{arn}` is no ARN of a role"),
                        "write it as in `arn:aws:iam::123456789012:role/deployer`",
                    );
                }
            }
            Cluster::Context(context) if context.context.trim().is_empty() => {
                self.error("/cluster/context", "the context's name is empty", "use a name that `kubectl config get-contexts` shows");
            }
            Cluster::Context(_) => {}
        }
    }

    /// The team's own command is there when it is asked for, and only then.
    fn redeploy(&mut self, pipeline: &Pipeline) {
        let Some(redeploy) = &pipeline.redeploy else { return };
        match (redeploy.method, &redeploy.command) {
            (Method::Command, None) => {
                self.error(
                    "/redeploy/method",
                    "`method: command` needs `redeploy.command`",
                    "write it as `command: {run: [ci/redeploy.sh], timeout: 15m}`",
                );
            }
            (Method::Restart | Method::Deploy, Some(_)) => {
                self.warn("/redeploy/command", "this command is never run", "write `method: command`, or remove it");
            }
            _ => {}
        }
    }

    /// `verify:` with nothing below is as good as no section.
    fn empty_sections(&mut self) {
        for (key, value) in self.tree.entries().unwrap_or_default() {
            if value.is_null() {
                let name = key.text().unwrap_or_default();
                let finding = self.source.warning(&key.span, format!("`{name}` is empty, so it counts as missing"));
                self.findings.push(finding.hint("fill it or remove the key"));
            }
        }
    }

    fn durations(&mut self, pipeline: &Pipeline) {
        let mut all: Vec<(String, Seconds)> = Vec::new();
        all.extend(pipeline.mesh.iter().map(|m| ("/mesh/timeout".to_owned(), m.timeout)));
        all.extend(pipeline.services.iter().enumerate().map(|(i, s)| (format!("/services/{i}/timeout"), s.timeout)));
        all.extend(pipeline.releases.iter().enumerate().map(|(i, r)| (format!("/releases/{i}/timeout"), r.timeout)));
        all.extend(pipeline.ingress.iter().map(|i| ("/ingress/timeout".to_owned(), i.timeout)));
        if let Some(verify) = &pipeline.verify {
            all.push(("/verify/timeout".to_owned(), verify.timeout));
            all.extend(verify.checks.iter().enumerate().filter_map(|(i, c)| Some((format!("/verify/checks/{i}/within"), c.within?))));
        }
        for (at, duration) in all {
            if duration.0.is_zero() {
                self.error(&at, "a time of nothing is no time limit", "write a duration such as 90s or 5m");
            } else if duration.0.as_secs() > 24 * 3600 {
                self.error(&at, format!("{duration} is longer than a day"), "write a duration such as 90s or 5m");
            }
        }
        for (i, service) in pipeline.services.iter().enumerate() {
            let times = service.tolerate.iter().flat_map(Tolerate::times);
            for (code, time) in times.filter_map(|(code, time)| Some((code, time?))).filter(|(_, time)| time.0 > service.timeout.0) {
                self.warn(
                    &format!("/services/{i}/tolerate/{code}"),
                    format!("`{code}` is tolerated for {time}, but the service's `timeout` ends the wait after {}", service.timeout),
                    "raise `timeout`, or tolerate it for less",
                );
            }
        }
    }

    fn mesh(&mut self, pipeline: &Pipeline) {
        let Some(mesh) = &pipeline.mesh else { return };
        let names: Vec<(String, &str)> = mesh
            .inject
            .iter()
            .enumerate()
            .map(|(i, namespace)| match namespace {
                InjectNamespace::Name(name) => (format!("/mesh/inject/{i}"), name.as_str()),
                InjectNamespace::Create(create) => (format!("/mesh/inject/{i}/name"), create.name.as_str()),
            })
            .collect();
        for (at, name) in &names {
            self.label(at, name, "a namespace");
            if matches!(*name, "istio-system" | "kube-system") {
                self.error(at, format!("sidecars must not be injected in `{name}`"), "remove it from the list");
            }
        }
        self.unique(names, "the namespace");
        if let Some(repo) = &mesh.helm_repo
            && !["https://", "http://", "oci://"].iter().any(|scheme| repo.url.starts_with(scheme))
        {
            self.error("/mesh/helm-repo/url", format!("`{}` is no address", repo.url), "write it as in `https://example.com/charts`");
        }
    }

    fn services(&mut self, services: &[Service]) {
        self.unique(services.iter().enumerate().map(|(i, s)| (format!("/services/{i}/name"), s.name.as_str())), "the service");
        for (i, service) in services.iter().enumerate() {
            let at = |key: &str| format!("/services/{i}/{key}");
            self.label(&at("name"), &service.name, "a service");
            match (&service.chart, &service.manifests) {
                (None, None) => {
                    self.error(
                        &format!("/services/{i}/name"),
                        format!("`{}` has neither `chart` nor `manifests`", service.name),
                        "say where it comes from: `chart: FOLDER` or `manifests: PATH`",
                    );
                }
                (Some(_), Some(_)) => {
                    self.error(&at("manifests"), format!("`{}` has both `chart` and `manifests`", service.name), "keep one of them")
                }
                (Some(_), None) if service.name.len() > RELEASE_NAME => {
                    self.error(
                        &at("name"),
                        format!("`{}` is too long for a helm release", service.name),
                        format!("at most {RELEASE_NAME} characters"),
                    );
                }
                _ => {}
            }
            if let Some(image) = &service.image {
                self.image(&at("image"), image);
            }
            let mut names = Vec::new();
            for (n, namespace) in service.namespaces.iter().enumerate() {
                let here = format!("/services/{i}/namespaces/{n}");
                match namespace {
                    ServiceNamespace::Name(name) => names.push((here, name.as_str())),
                    ServiceNamespace::WithValues(with) => {
                        names.push((pointer(&here, "name"), with.name.as_str()));
                        if service.chart.is_none() && !with.values.is_empty() {
                            self.error(
                                &pointer(&here, "values"),
                                "values files are for charts, but this service has manifests",
                                "remove `values`, or use a chart",
                            );
                        }
                    }
                }
            }
            for (at, name) in &names {
                self.label(at, name, "a namespace");
            }
            self.unique(names, "the namespace");
        }
    }

    /// A tag that was filled with nothing is the usual mistake.
    fn image(&mut self, at: &str, image: &str) {
        let problem = if image.trim() != image || image.contains(char::is_whitespace) || image.is_empty() {
            Some("has a space in it, or is empty")
        } else if image.ends_with(':') || image.ends_with('@') {
            Some("has no tag behind its `:`")
        } else if image.contains("://") {
            Some("is an address, not an image")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.error(at, format!("the image `{image}` {problem}"), "write it as in `registry.example/app1:1.4.2`");
        }
    }

    fn releases(&mut self, pipeline: &Pipeline) {
        let full: Vec<(String, String)> =
            pipeline.releases.iter().enumerate().map(|(i, r)| (format!("/releases/{i}/name"), format!("{} in {}", r.name, r.namespace))).collect();
        self.unique(full.iter().map(|(at, name)| (at.clone(), name.as_str())), "the release");
        for (i, release) in pipeline.releases.iter().enumerate() {
            let at = |key: &str| format!("/releases/{i}/{key}");
            if release.name.len() > RELEASE_NAME || !release.name.split('.').all(is_dns_label) {
                self.error(
                    &at("name"),
                    format!("`{}` is no name of a helm release", release.name),
                    format!("use lower-case letters, digits, `-` and `.`, at most {RELEASE_NAME}"),
                );
            }
            self.label(&at("namespace"), &release.namespace, "a namespace");
            let same =
                |s: &&Service| s.chart.is_some() && s.name == release.name && s.namespaces.iter().any(|n| namespace_name(n) == release.namespace);
            if pipeline.services.iter().any(|s| same(&s)) {
                self.error(
                    &at("name"),
                    format!("the service `{}` is a helm release of this name in `{}` already", release.name, release.namespace),
                    "rename the release",
                );
            }
            if let Some(team) = release.team.as_deref().filter(|team| team.trim().is_empty()) {
                self.error(&at("team"), format!("the team's name is `{team}`"), "name the team, or remove the key");
            }
        }
        self.same_values(pipeline);
    }

    /// The release of the routes' chart must install the file that the routes stage edits.
    fn same_values(&mut self, pipeline: &Pipeline) {
        let Some(routes) = &pipeline.routes else { return };
        let plain = |path: &str| path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let edited = plain(&routes.values);
        for (i, release) in pipeline.releases.iter().enumerate() {
            let chart = plain(&release.chart);
            let own_chart = edited.rsplit_once('/').is_some_and(|(folder, _)| folder == chart);
            let is_default = edited == format!("{chart}/values.yaml");
            let named = release.values.iter().any(|v| plain(v) == edited);
            if (own_chart || release.name == "virtual-services") && !named && !(is_default && release.values.is_empty()) {
                let at = if release.values.is_empty() { format!("/releases/{i}/name") } else { format!("/releases/{i}/values") };
                self.warn(
                    &at,
                    format!("the release `{}` is not installed with `{}`, which `routes` edits", release.name, routes.values),
                    format!("add it to `values`: [{}]", routes.values),
                );
            }
        }
    }

    fn routes(&mut self, pipeline: &Pipeline, places: &Places) {
        let Some(routes) = &pipeline.routes else { return };
        let mut listed = Vec::new();
        for (i, entry) in routes.upsert.iter().enumerate() {
            let base = format!("/routes/upsert/{i}");
            listed.push(Listed { entry: entry.clone(), places: below(self.tree, &base, places) });
            // `app2` beside `app1` is another service, not a slip of the pen.
            let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
            let services = pipeline.services.iter().map(|s| s.name.as_str()).filter(|name| digits(name) == digits(&entry.name));
            if !pipeline.services.is_empty()
                && !services.clone().any(|name| name == entry.name)
                && let Some(near) = nearest(&entry.name, services)
            {
                self.warn(
                    &format!("{base}/name"),
                    format!("no service `{}` is deployed by this file", entry.name),
                    format!("did you mean `{near}`?"),
                );
            }
        }
        let mut found = check_entries(&listed);
        for finding in &mut found {
            finding.mark = self.mark_at(finding.place.line, finding.place.column);
            for also in &mut finding.also {
                also.mark = self.mark_at(also.place.line, also.place.column);
            }
        }
        self.findings.extend(found);
    }

    fn mark_at(&self, line: u32, column: u32) -> Option<crate::base::finding::Mark> {
        let line = self.source.line((line as usize).checked_sub(1)?);
        let rest: String = line.chars().skip(column.max(1) as usize - 1).collect();
        let width = rest.find([',', ']', '}', ' ']).unwrap_or(rest.len());
        Some(crate::base::finding::Mark { line: line.to_owned(), width: rest[..width].chars().count().max(1) })
    }

    fn verify(&mut self, pipeline: &Pipeline) {
        if let Some(ingress) = &pipeline.ingress {
            for (key, name) in [("name", &ingress.name), ("namespace", &ingress.namespace), ("service", &ingress.service)] {
                if !name.split('.').all(is_dns_label) {
                    self.error(&format!("/ingress/{key}"), format!("`{name}` is no name of a Kubernetes object"), LABEL);
                }
            }
        }
        let Some(verify) = &pipeline.verify else { return };
        if pipeline.ingress.is_none() {
            self.error("/verify", "`verify` asks through the load balancer, but there is no `ingress`", "add `ingress: {name: gw-ingress}`");
        }
        match verify.hosts {
            Some(HostSource::FromRoutes) if pipeline.routes.is_none() => {
                self.error("/verify/hosts", "`hosts: from-routes` needs `routes`", "add `routes: {values: FILE}`, or list `checks`");
            }
            None if verify.checks.is_empty() => self.warn("/verify", "`verify` checks nothing", "add `hosts: from-routes` or `checks`"),
            _ => {}
        }
        for (i, check) in verify.checks.iter().enumerate() {
            let at = |key: &str| format!("/verify/checks/{i}/{key}");
            if let Err((what, hint)) = check_host(&check.host) {
                self.error(&at("host"), format!("`{}` {what}", check.host), hint);
            } else if check.host.starts_with('*') {
                self.error(&at("host"), format!("`{}` is a wildcard, which cannot be asked", check.host), "name one host that it covers");
            } else if is_cluster_host(&check.host) {
                self.error(
                    &at("host"),
                    format!("`{}` is a name inside the cluster, which no load balancer serves", check.host),
                    "check a public host",
                );
            }
            if let Some(pattern) = check.body_matches.as_ref().filter(|pattern| Regex::new(pattern).is_err()) {
                self.error(&at("body-matches"), format!("`{pattern}` is no regular expression"), "escape its special characters with `\\`");
            }
            if check.status.as_ref().is_some_and(|status| status.read().is_none()) {
                self.error(&at("status"), "a range of `status` runs backwards", "write the lower status first, as in `200-299`");
            }
            if let Some(wrong) = check.body_json.keys().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
                self.error(&at("body-json"), format!("`{wrong}` is no JSON pointer"), format!("write it as `/{wrong}`"));
            }
            let needs_tls = check.certificate_days.is_some() || check.min_tls.is_some();
            if needs_tls && check.scheme != Some(Scheme::Https) {
                self.error(&at("scheme"), "`certificate-days` and `min-tls` are about HTTPS", "add `scheme: https`");
            }
            if !check.path.starts_with('/') || check.path.contains(char::is_whitespace) || check.path.contains('#') {
                self.error(&at("path"), format!("`{}` is no path", check.path), "start it with `/`, without spaces and `#`");
            }
        }
    }
}

fn namespace_name(namespace: &ServiceNamespace) -> &str {
    match namespace {
        ServiceNamespace::Name(name) => name,
        ServiceNamespace::WithValues(with) => &with.name,
    }
}

/// The places below a pointer, by the rest of their pointers.
fn below(tree: &Node, base: &str, places: &Places) -> Places {
    fn walk(node: &Node, at: &str, base: &str, places: &Places, into: &mut Places) {
        if let Some(place) = places.at(at) {
            into.insert(&at[base.len()..], place.clone());
        }
        for (index, item) in node.items().unwrap_or_default().iter().enumerate() {
            walk(item, &pointer(at, &index.to_string()), base, places, into);
        }
        for (key, value) in node.entries().unwrap_or_default() {
            walk(value, &pointer(at, key.text().unwrap_or_default()), base, places, into);
        }
    }
    let mut into = Places::default();
    walk(places::find(tree, base), base, base, places, &mut into);
    into
}

/// Are there errors among them?
pub(super) fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.level == Level::Error)
}
