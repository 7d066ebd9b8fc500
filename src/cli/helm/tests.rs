//! The cache, the checksums and the order of places, against an archive host of our own.

use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const BINARY: &[u8] = b"#!/bin/sh\necho v9.9.9\n";

fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in [("test-box/LICENSE", &b"..."[..]), ("test-box/helm", BINARY)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, bytes).expect("in memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("in memory")
}

fn sum(bytes: &[u8]) -> &'static str {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.leak()
}

fn pin(archive: Option<&'static str>, binary: Option<&'static str>) -> Pin {
    Pin { version: "9.9.9", platform: "test-box", archive, binary, wheel: None }
}

fn tools(vars: &[(&str, &str)]) -> Tools {
    Tools::new(Settings::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), []), CancellationToken::new())
}

async fn server(bytes: Vec<u8>) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(path("/helm-v9.9.9-test-box.tar.gz")).respond_with(ResponseTemplate::new(200).set_body_bytes(bytes)).mount(&server).await;
    server
}

#[tokio::test]
async fn it_is_fetched_once_by_however_many_at_a_time_and_told_in_one_line() {
    let server = server(archive()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (pin, tools, told) = (pin(Some(sum(&archive())), Some(sum(BINARY))), tools(&[]), Mutex::new(Vec::new()));
    let tell = |line: &str| told.lock().expect("not poisoned").push(line.to_owned());
    let uri = server.uri();
    let one = || fetch_once(&pin, folder.path(), &uri, &tools, tell);
    let (a, b) = futures::join!(one(), one());
    assert_eq!(a.as_ref().ok(), Some(&folder.path().join("helm")), "{a:?}");
    assert_eq!(a, b);
    assert_eq!(std::fs::read(folder.path().join("helm")).expect("placed"), BINARY);
    assert_eq!(server.received_requests().await.map(|r| r.len()), Some(1));
    let told = told.into_inner().expect("not poisoned");
    assert!(told.len() == 1 && told[0].starts_with("helm is not on PATH: fetching helm 9.9.9 once into "), "{told:?}");
    let output = std::process::Command::new(folder.path().join("helm")).output().expect("it can be run");
    assert_eq!(output.stdout, b"v9.9.9\n");
}

#[tokio::test]
async fn what_is_not_as_pinned_is_refused_and_nothing_is_placed() {
    let good = (sum(&archive()), sum(BINARY));
    let cases = [
        (pin(Some(good.1), Some(good.1)), "helm-v9.9.9-test-box.tar.gz is not what it must be"),
        (pin(Some(good.0), Some(good.0)), "helm is not what it must be"),
        (pin(None, Some(good.0)), "helm is not what it must be"),
        (pin(None, None), "no checksum is pinned"),
        (Pin { platform: "other-box", ..pin(Some(good.0), None) }, "404"),
    ];
    let server = server(archive()).await;
    for (pin, reason) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let fault = fetch_once(&pin, folder.path(), &server.uri(), &tools(&[]), |_| ()).await.expect_err(reason);
        assert_eq!(fault.code, Code::ToolMissing);
        assert!(fault.evidence.iter().any(|piece| piece.text.contains(reason)), "{reason}: {fault:?}");
        assert!(!folder.path().join("helm").exists());
    }
}

#[tokio::test]
async fn an_archive_without_helm_and_an_unreachable_host_are_told_apart() {
    let empty = GzEncoder::new(Vec::new(), Compression::fast()).finish().expect("in memory");
    let server = server(empty.clone()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let gone = "http://127.0.0.1:1".to_owned();
    for (archives, reason) in [(server.uri(), "test-box/helm is not in it"), (gone, "onnect")] {
        let fault = fetch_once(&pin(Some(sum(&empty)), None), folder.path(), &archives, &tools(&[]), |_| ()).await.expect_err(reason);
        let said = &fault.evidence[0].text;
        assert!(said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn the_users_own_helm_comes_first_and_a_wrong_one_is_not_silently_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let helm = folder.path().join("helm");
    std::fs::write(&helm, BINARY).expect("written");
    std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755)).expect("set");
    let (dir, file) = (folder.path().to_str().expect("UTF-8"), helm.to_str().expect("UTF-8"));
    let silent = |line: &str| panic!("told: {line}");
    assert_eq!(provide(&tools(&[("PATH", dir)]), silent).await, Ok(helm.clone()));
    assert_eq!(provide(&tools(&[("MESHSTEP_HELM", file), ("PATH", "/nowhere")]), silent).await, Ok(helm.clone()));
    let fault = provide(&tools(&[("MESHSTEP_HELM", "/nowhere/helm"), ("PATH", dir)]), silent).await.expect_err("it names nothing");
    assert_eq!((fault.code, fault.message.as_str()), (Code::ToolMissing, "MESHSTEP_HELM is `/nowhere/helm`, which cannot be run"));
}

#[test]
fn the_cache_is_the_users() {
    for (vars, wanted) in [
        (&[("HOME", "/home/a")][..], Some("/home/a/.cache/meshstep/helm")),
        (&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")][..], Some("/c/meshstep/helm")),
        (&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "relative")][..], Some("/home/a/.cache/meshstep/helm")),
        (&[][..], None),
    ] {
        assert_eq!(cache(tools(vars).settings()), wanted.map(PathBuf::from), "{vars:?}");
    }
}

#[test]
fn every_pin_has_a_checksum_and_each_platform_once() {
    for pins in [&HELM_4, &HELM_3] {
        let mut platforms: Vec<_> = pins.iter().map(|pin| pin.platform).collect();
        platforms.dedup();
        assert_eq!(platforms.len(), 4);
        for pin in pins {
            let sums: Vec<_> = [pin.archive, pin.binary, pin.wheel.as_ref().map(|wheel| wheel.sha256)].into_iter().flatten().collect();
            assert!(pin.archive.or(pin.binary).is_some(), "{pin:?}");
            assert!(sums.iter().all(|sum| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit())), "{pin:?}");
        }
    }
}
