//! Security Token Service: who the caller is, and temporary credentials for a role.

use super::Account;
use super::elb_xml::{element, text};
use super::faults::AwsError;
use super::server::Params;

/// The content of the `<op>Result` element; `None` for an operation that is not played.
pub(super) fn answer(account: &Account, op: &str, params: &Params) -> Option<Result<String, AwsError>> {
    let access = &account.world.access;
    match op {
        "GetCallerIdentity" => {
            let content =
                text("Arn", &access.arn) + &text("UserId", "AROASANDBOXSANDBOX00:sandbox") + &text("Account", &account.world.cluster.account);
            Some(Ok(content))
        }
        "AssumeRoleWithWebIdentity" if params.get("WebIdentityToken").is_none_or(|token| token.split('.').count() != 3) => Some(Err(AwsError::new(
            400,
            "InvalidIdentityToken",
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
        ))),
        "AssumeRole" | "AssumeRoleWithWebIdentity" => {
            let role = params.get("RoleArn").unwrap_or_default();
            let session = params.get("RoleSessionName").unwrap_or("sandbox");
            let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
            let credentials = [
                text("AccessKeyId", &access.access_key),
                text("SecretAccessKey", &access.secret_key),
                text("SessionToken", "sandbox-session-token"),
                text("Expiration", &expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ];
            let assumed = format!("{}/{session}", role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/"));
            let user = text("AssumedRoleId", &format!("AROASANDBOXSANDBOX00:{session}")) + &text("Arn", &assumed);
            Some(Ok(element("AssumedRoleUser", &user) + &element("Credentials", &credentials.concat())))
        }
        _ => None,
    }
}
