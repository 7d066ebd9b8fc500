//! `meshstep init`: a first pipeline file from a folder, and from what runs in a cluster.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::cli::args::InitArgs;
use crate::cli::private::Private;
use crate::cli::settings::Environment;
use crate::cli::{print, runtime};
use crate::clients::kube::{Access, Cluster};
use crate::clients::tools::Tools;
use crate::domain::init::{self, Asked, Folder, Live, folder, live, write};
use crate::domain::releases::helm::Helm;
use crate::spec;

const SCHEMA: &str = "meshstep.schema.json";

/// Writes the file, or with `--dry-run` prints it, and says what is left to a person.
pub(super) fn run(args: &InitArgs, environment: &Environment) -> Result<u8> {
    if args.file.components().count() != 1 {
        let fault = Fault::new(
            Code::FileInvalid,
            format!("`{}` is no plain name: the file's paths are relative to the folder it is in", args.file.display()),
        );
        return Err(fault.class(Class::Usage).next("name the folder first: `meshstep init FOLDER --file NAME`"));
    }
    let target = args.dir.join(&args.file);
    if target.exists() && !args.force && !args.dry_run {
        let fault = Fault::new(Code::FileInvalid, format!("`{}` is there already, and nothing was written", target.display())).class(Class::Usage);
        return Err(fault.next("see what it would be with `--dry-run`, or replace it with `--force`"));
    }
    let found = folder::read(&args.dir)?;
    let live = match &args.context {
        None => None,
        Some(context) => Some(runtime().block_on(look(context.as_deref(), environment))?),
    };
    let draft =
        init::draft(&found, live.as_ref().map(|(_, live)| live), &asked(args, environment, live.as_ref().map(|(context, _)| context.as_str())));
    let text = write::text(&draft, SCHEMA);
    if args.dry_run {
        print(&text);
        return Ok(0);
    }
    save(&target, &text)?;
    // Editors complete and check the file with it.
    let schema = target.with_file_name(SCHEMA);
    if !schema.exists() {
        save(&schema, &spec::schema())?;
    }
    print(&told(&target, &found, &text));
    match spec::load(&target, &environment.file_vars(&[])) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| print(&format!("  warning: {}: {}", warning.place, warning.message)));
            Ok(0)
        }
        // What the folder itself has wrong (a broken values file) shows here: the file is right, and says where to look.
        Err(findings) => {
            let fault = crate::base::finding::fault(Code::FileInvalid, &findings);
            Err(fault.next("the file is written; correct what is named, then `meshstep validate`"))
        }
    }
}

fn save(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Fault::new(Code::FileUnreadable, format!("cannot write `{}`: {error}", path.display())))
}

fn told(target: &Path, found: &Folder, text: &str) -> String {
    let (charts, manifests) = (found.charts.len(), found.manifests.len());
    let entries = found.routes.as_ref().map_or(0, |(_, entries)| entries.len());
    let count = crate::base::text::count;
    let mut lines = vec![format!(
        "{} written: {}, {}, {}",
        target.display(),
        count(charts, "chart"),
        count(manifests, "file") + " of manifests",
        count(entries, "route")
    )];
    let open = text.lines().enumerate().filter_map(|(n, line)| Some((n + 1, line.split_once("TODO:")?.1.trim())));
    lines.extend(open.map(|(line, what)| format!("  {}:{line}: to decide: {what}", target.display())));
    lines.push(format!("  next: `meshstep validate -f {}`, then `meshstep run --sandbox -f {}`", target.display(), target.display()));
    lines.join("\n")
}

fn asked(args: &InitArgs, environment: &Environment, context: Option<&str>) -> Asked {
    let folder = std::fs::canonicalize(&args.dir).ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let region = args.region.clone().or_else(|| environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION")).map(str::to_owned));
    Asked {
        name: args.name.clone().or(folder).unwrap_or_else(|| "pipeline".to_owned()),
        cluster: args.cluster.clone(),
        region,
        context: context.map(str::to_owned),
        team: args.team.clone(),
    }
}

/// What runs there, and the context's name.
async fn look(context: Option<&str>, environment: &Environment) -> Result<(String, Live)> {
    let private = Private::make()?;
    let settings = environment.settings();
    let access = Access::Context { context: context.map(str::to_owned), private: private.path().join("kubeconfig") };
    let cluster = Cluster::connect(access, &settings).await?;
    let tools = Tools::new(settings, CancellationToken::new());
    // Without helm there are no releases to see, but all the rest.
    let helm = Helm::open(&tools, cluster.kubeconfig()).await.ok();
    let live = live::look(&cluster, helm.as_ref()).await?;
    // The private copy has only this context, and names it.
    let copy = std::fs::read_to_string(cluster.kubeconfig()).unwrap_or_default();
    let copy: serde_json::Value = serde_saphyr::from_str(&copy).unwrap_or_default();
    Ok((copy["current-context"].as_str().or(context).unwrap_or_default().to_owned(), live))
}
