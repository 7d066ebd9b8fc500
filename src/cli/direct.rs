//! stub
use crate::base::fault::Result;
use crate::cli::args::VerifyArgs;
use crate::cli::settings::Environment;
pub(super) fn run(_v: VerifyArgs, _e: Environment) -> Result<u8> {
    Ok(0)
}
