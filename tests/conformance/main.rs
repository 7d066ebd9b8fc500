//! The sandbox's API server held against recordings of the real one: the same calls, the same answers.
//!
//! `cargo lab conformance` plays the calls against the real API server and fails when a recording is out of date; with `UPDATE=1` it records.

mod play;

use std::sync::Arc;

use meshstep::sandbox::api::{Options, Server};
use meshstep::sandbox::store::{Store, User};
use serde_json::Value;

const ADMIN: &str = "the-administrator";

/// Where the sandbox may differ: script, a call or `*`, what the place in the answer contains, and why.
const UNLIKE: [(&str, &str, &str, &str); 25] = [
    ("*", "*", "/managedFields", "who updates owns what he sent, without the defaults; conflicts of appliers, which is what tools see, are compared"),
    ("*", "*", "/description", "the columns' documentation, which nobody shows"),
    ("access", "*", "/storageVersionHash", "it has no storage versions"),
    ("access", "core versions", "/serverAddress", "it tells no address of its own; nobody who is connected asks"),
    ("access", "core in one answer", "/resources", "it serves what tools call, no more"),
    ("access", "all groups in one answer", "/items", "it serves what tools call, no more"),
    ("access", "all groups", "/groups", "it serves what tools call, no more"),
    ("access", "the list of schemas", "", "it has the schemas of what it serves, and marks the list as it marks them"),
    ("access", "a path that is not there", "", "what it does not play is 501 and named, so that no test takes it for an answer"),
    ("access", "it asks for a path", "", "rights on paths that are no resources are not played"),
    ("access", "who is it", "/userInfo", "the test names the account, its token says no more"),
    ("access", "another command for a pod", "essage", "the real message ends with a dump of both pods"),
    ("access", "the log of a pod that waits for a node", "", "an empty log is 200"),
    ("access", "a budget that allows nothing", "/body/status", "budgets have no controller there, so no status"),
    ("objects", "a disruption budget", "/body/status", "budgets have no controller there, so no status"),
    ("lists", "a page mark that is none", "/message", "how it reads the mark is its own affair"),
    ("objects", "another kind in the body", "/message", "names of Go types"),
    ("objects", "not JSON", "/message", "its parser's own words"),
    ("patches", "a merge patch that is no object", "/message", "its parser's own words"),
    ("objects", "a field twice, strictly", "", "its parser keeps the last and does not tell"),
    ("objects", "a secret that is not base64", "", "a Secret's data is not decoded"),
    ("objects", "a deployment without a selector", "", "the second complaint follows from the first"),
    ("objects", "the namespace goes", "", "an empty namespace goes at once there; in the real one a controller takes it away"),
    ("objects", "and is still there", "", "as above"),
    ("objects", "made in a namespace that goes", "", "as above"),
];

fn user(token: &str) -> Option<User> {
    let of = |name: &str, groups: &[&str]| {
        Some(User { name: name.to_owned(), uid: String::new(), groups: groups.iter().map(|g| (*g).to_owned()).collect() })
    };
    match token {
        ADMIN => of("admin", &["system:masters", "system:authenticated"]),
        "nobody-issued-this" => None,
        _ => of("system:serviceaccount:access:weak", &["system:serviceaccounts", "system:serviceaccounts:access", "system:authenticated"]),
    }
}

async fn sandbox() -> Server {
    meshstep::clients::install_crypto_provider();
    let options = Options {
        authenticate: Arc::new(user),
        // As the real server's default roles: everybody may ask about himself.
        authorize: Arc::new(|seen| {
            let admin = seen.user.as_ref().is_some_and(|user| user.name == "admin");
            admin || seen.group == "authorization.k8s.io" || seen.group == "authentication.k8s.io"
        }),
        ..Options::default()
    };
    Server::start(Store::new(), options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// The real answer without the resources of a group that the sandbox does not serve, in the sandbox's order.
fn served(real: &Value, sandbox: &Value) -> Value {
    let mut real = real.clone();
    let own = sandbox.pointer("/body/resources").and_then(Value::as_array);
    if let (Some(own), Some(all)) = (own, real.pointer_mut("/body/resources").and_then(Value::as_array_mut)) {
        let at = |resource: &Value| own.iter().position(|known| known["name"] == resource["name"]);
        all.retain(|resource| at(resource).is_some());
        all.sort_by_key(at);
    }
    real
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_answers_as_the_real_server_did() {
    let server = sandbox().await;
    let played = play::Server { url: server.url(), ca_pem: server.ca_pem().to_owned(), admin: ADMIN.to_owned() };
    let is = |pattern: &str, name: &str| pattern == "*" || pattern == name;
    let (mut wrong, mut excused) = (Vec::new(), vec![false; UNLIKE.len()]);
    for (script, calls) in play::scripts() {
        let recorded = play::recorded(&script);
        let answers = played
            .play(&calls, |call| {
                if call.forget {
                    server.store().compact();
                }
            })
            .await;
        for (say, answer) in &answers {
            let mut found = Vec::new();
            match recorded.get(say) {
                Some(real) => play::differences("", &served(real, answer), answer, &mut found),
                None => found.push((String::new(), "not recorded: UPDATE=1 cargo lab conformance".to_owned())),
            }
            for (at, what) in found {
                let excuse = UNLIKE.iter().position(|(s, c, part, _)| is(s, &script) && is(c, say) && at.contains(part));
                match excuse {
                    Some(n) => excused[n] = true,
                    None => wrong.push(format!("{script}: {say}\n    {at}: real and sandbox: {what}")),
                }
            }
        }
    }
    for ((script, call, part, _), _) in UNLIKE.iter().zip(&excused).filter(|(_, used)| !**used) {
        wrong.push(format!("{script}: {call} at {part}: no longer unlike, take it out of the list"));
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}
