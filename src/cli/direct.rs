//! stub
use crate::base::fault::Result;
use crate::cli::args::VerifyArgs;
use crate::cli::settings::Environment;
pub(super) fn run(_v: VerifyArgs, _e: Environment) -> Result<u8> {
    Err(crate::base::fault::Fault::new(crate::base::codes::Code::Defect, "not built yet"))
}
