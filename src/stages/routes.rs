//! Stage `routes`: the services' entries in the virtual-services values file.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::fault::Result;
use crate::base::finding::Finding;
use crate::domain::routes::plan::{Planned, Wanted, plan};
use crate::domain::routes::{Effect, Entry, diff, file, upsert};
use crate::engine::record::Done;
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::Shared;

/// `routes:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Routes {
    /// The values file of the virtual-services chart.
    pub values: String,
    /// Key of the list; by default the one list whose items have `virtualName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_key: Option<String>,
    /// Entries to insert, or to bring up to date by `virtualName`.
    #[serde(default)]
    pub upsert: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RoutesStage;

#[async_trait]
impl Stage<Shared> for RoutesStage {
    fn id(&self) -> &'static str {
        "routes"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(match ctx.shared.pipeline.routes {
            Some(_) => Readiness::Ready,
            None => Readiness::Skip("no routes: section in the file".to_owned()),
        })
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let Some(routes) = &ctx.shared.pipeline.routes else { return Ok(()) };
        let wanted = wanted(ctx, routes);
        let Some(planned) = values_file(ctx, routes, &wanted).await else { return Ok(()) };
        let all_well = planned.steps.iter().all(Result::is_ok);
        for (wanted, step) in wanted.iter().zip(planned.steps) {
            let case = ctx.record.case(format!("virtualservice {}", wanted.entry.virtual_name));
            let case = case.service(&wanted.entry.name).place(wanted.place.as_ref());
            match step {
                Err(fault) => case.fail(fault),
                Ok(_) if !all_well => case.skip("not written: another entry is invalid"),
                Ok(step) if ctx.dry_run => {
                    let (shown, edited) = (shown(ctx, routes), step.edited);
                    case.run(|case| async move {
                        case.output(&diff(&shown, &step.before, &edited.text));
                        Ok(done(edited.effect, true))
                    })
                    .await;
                }
                Ok(_) => {
                    let (path, shown) = (ctx.shared.path(&routes.values), shown(ctx, routes));
                    case.run(|case| async move {
                        // The file as it is now: what was planned may be some seconds old.
                        let (effect, change) = file::edit(&path, &shown, |old| {
                            let edited = upsert(old, &shown, routes.list_key.as_deref(), &wanted.entry)?;
                            Ok(((edited.effect, diff(&shown, old, &edited.text)), edited.text))
                        })
                        .await?;
                        case.output(&change);
                        Ok(done(effect, false))
                    })
                    .await;
                }
            }
        }
        Ok(())
    }
}

/// The chosen entries, with their lines.
fn wanted(ctx: &Ctx<Shared>, routes: &Routes) -> Vec<Wanted> {
    let chosen = routes.upsert.iter().enumerate().filter(|(_, entry)| ctx.shared.filters.entry(entry));
    chosen.map(|(index, entry)| Wanted { entry: entry.clone(), place: ctx.shared.place(&format!("/routes/upsert/{index}")).cloned() }).collect()
}

/// The values file as messages name it.
fn shown(ctx: &Ctx<Shared>, routes: &Routes) -> String {
    ctx.shared.shown(&routes.values)
}

/// Reads and judges the file; nothing is written unless it and every entry are right.
async fn values_file(ctx: &Ctx<Shared>, routes: &Routes, wanted: &[Wanted]) -> Option<Planned> {
    let case = ctx.record.case("values file").place(ctx.shared.place("/routes/values"));
    let (path, shown) = (ctx.shared.path(&routes.values), shown(ctx, routes));
    case.run(|case| async move {
        let text = file::read(&path, &shown)?;
        let planned = plan(&text, &shown, routes.list_key.as_deref(), wanted)?;
        for warning in &planned.warnings {
            case.warn(in_words(warning));
        }
        let note = crate::base::text::count(planned.entries.len(), "VirtualService");
        Ok(Done::unchanged(planned, note))
    })
    .await
}

fn in_words(finding: &Finding) -> String {
    match &finding.hint {
        Some(hint) => format!("{}: {}; {hint}", finding.place, finding.message),
        None => format!("{}: {}", finding.place, finding.message),
    }
}

fn done(effect: Effect, dry_run: bool) -> Done<()> {
    let word = match effect {
        Effect::Unchanged => return Done::unchanged((), "unchanged"),
        Effect::Inserted => "inserted",
        Effect::Updated => "updated",
        Effect::Removed => "removed",
    };
    if dry_run { Done::would_change((), format!("would be {word}")) } else { Done::changed((), word) }
}
