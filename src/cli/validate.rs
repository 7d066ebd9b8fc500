//! `meshstep validate`: the pipeline file checked offline.

use crate::base::finding;
use crate::cli::args::{Output, ValidateArgs};
use crate::cli::settings::Environment;
use crate::cli::{print, print_error};
use crate::engine::outcome::exit_code;
use crate::spec;

/// Returns the exit code.
pub(super) fn run(args: &ValidateArgs, environment: &Environment) -> u8 {
    let loaded = spec::load(&args.file, &environment.file_vars(&args.vars));
    let (exit, findings) = match &loaded {
        Ok(loaded) => (0, &loaded.warnings),
        Err(findings) => (exit_code(crate::base::fault::Class::Invalid), findings),
    };
    match args.console.output {
        Output::Json => print(&finding::json(findings)),
        Output::Text => {
            if !findings.is_empty() {
                print_error(finding::render(findings).trim_end());
            }
            if let Ok(loaded) = &loaded
                && !args.console.quiet
            {
                print(&format!("{} is valid: {}", args.file.display(), contents(&loaded.pipeline)));
            }
        }
    }
    exit
}

fn contents(pipeline: &crate::stages::Pipeline) -> String {
    let count = crate::base::text::count;
    let parts = [
        pipeline.mesh.is_some().then(|| "mesh".to_owned()),
        (!pipeline.services.is_empty()).then(|| count(pipeline.services.len(), "service")),
        pipeline.routes.as_ref().map(|routes| count(routes.upsert.len(), "route")),
        (!pipeline.releases.is_empty()).then(|| count(pipeline.releases.len(), "release")),
        pipeline.ingress.as_ref().map(|ingress| format!("ingress {}", ingress.name)),
        pipeline.verify.is_some().then(|| "verify".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "a cluster and no stage".to_owned() } else { parts.join(", ") }
}
