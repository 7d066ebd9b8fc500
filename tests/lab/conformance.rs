//! The recordings in `fixtures/conformance/` are what the real API server answers.

use base64::Engine as _;

use crate::play;
use crate::support::{Lab, Profile, part, runtime};

pub(crate) fn recordings_are_true() {
    let lab = Lab::up(Profile::Api, &[]);
    // Nothing but the API server may change what the calls make.
    for name in ["kcm", "scheduler", "kwok"] {
        part("stop", name);
    }
    let kubeconfig: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(lab.env("KUBECONFIG")).expect("a kubeconfig")).expect("YAML");
    let text = |pointer: &str| kubeconfig.pointer(pointer).and_then(serde_json::Value::as_str).expect("a value").to_owned();
    let ca = base64::engine::general_purpose::STANDARD.decode(text("/clusters/0/cluster/certificate-authority-data")).expect("base64");
    let server =
        play::Server { url: text("/clusters/0/cluster/server"), ca_pem: String::from_utf8(ca).expect("PEM"), admin: text("/users/0/user/token") };
    meshstep::clients::install_crypto_provider();
    let mut wrong = Vec::new();
    for (script, calls) in play::scripts() {
        let answers = runtime().block_on(server.play(&calls, |call| {
            if call.forget {
                forget(&lab);
            }
        }));
        let recorded = play::recorded(&script);
        if std::env::var_os("UPDATE").is_some() {
            let text = serde_json::to_string_pretty(&answers).expect("JSON");
            std::fs::write(play::folder().join(format!("{script}.json")), text + "\n").expect("written");
            continue;
        }
        for say in recorded.keys().filter(|say| !answers.contains_key(*say)) {
            wrong.push(format!("{script}: {say}: recorded, and no longer played"));
        }
        for (say, answer) in &answers {
            let mut found = Vec::new();
            play::differences("", recorded.get(say).unwrap_or(&serde_json::Value::Null), answer, &mut found);
            wrong.extend(found.into_iter().map(|(at, what)| format!("{script}: {say}\n    {at}: recorded and now: {what}")));
        }
    }
    assert!(wrong.is_empty(), "the recordings are out of date (`UPDATE=1 cargo lab conformance` records anew):\n{}", wrong.join("\n"));
}

/// A server that has just started keeps no events of before.
fn forget(lab: &Lab) {
    part("stop", "apiserver");
    part("start", "apiserver");
    lab.exec(&["timeout", "60", "bash", "-c", "until kubectl get --raw /readyz; do sleep 0.2; done"]);
}
