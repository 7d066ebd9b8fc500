//! From an SDK error to a fault: credentials, rights, throttling, the network, or AWS's own words.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::sync::LazyLock;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_eks::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use regex::Regex;

use super::Aws;
use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::{secrets, text};

impl Aws {
    /// The fault of a failed call; `action` as IAM policies write it (`eks:DescribeCluster`).
    pub(super) fn fault<E, R>(&self, error: &SdkError<E, R>, action: &str) -> Fault
    where
        E: ProvideErrorMetadata + StdError + Debug + 'static,
        R: Debug + 'static,
    {
        match error.as_service_error() {
            Some(said) => of_service(said.code().unwrap_or_default(), said.message().unwrap_or_default(), action),
            None => of_net(error, action, self.region()),
        }
    }
}

pub(super) fn of_service(code: &str, message: &str, action: &str) -> Fault {
    let said = secrets::redact(&text::one_line(message)).into_owned();
    let words = if said.is_empty() { code.to_owned() } else { format!("{code}: {said}") };
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            Fault::new(Code::AwsCredentials, format!("{action}: the AWS session has expired ({words})"))
                .next("renew the job's AWS session (assume the role again, or log in again with SSO)")
        }
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => Fault::new(Code::AwsCredentials, format!("{action}: AWS does not know these credentials ({words})"))
            .next("check access key, session token and account; in China and GovCloud the keys are the partition's own"),
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "RequestTimeTooSkewed" => {
            Fault::new(Code::AwsCredentials, format!("{action}: AWS refuses the signature ({words})"))
                .next("check the agent's clock, then the secret access key")
        }
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "AuthorizationError" | "Client.UnauthorizedOperation" => {
            let action = denied_action(&said).unwrap_or(action).to_owned();
            Fault::new(Code::AwsDenied, format!("AWS refuses {action} ({words})")).next(format!("add `{action}` to the job's IAM policy"))
        }
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" | "RequestThrottled" => {
            Fault::new(Code::AwsFailed, format!("{action}: AWS asks for fewer calls ({words})"))
                .next("try again later; the limit is shared by the whole account and Region")
        }
        _ => Fault::new(Code::AwsFailed, format!("{action}: {words}")),
    }
}

pub(super) fn of_net(error: &(dyn StdError + 'static), action: &str, region: &str) -> Fault {
    let chain: Vec<&(dyn StdError + 'static)> =
        std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source()).take(16).collect();
    if let Some(error) = chain.iter().find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        return of_credentials(error);
    }
    let said = chain.last().map(ToString::to_string).unwrap_or_default();
    let said = secrets::redact(&text::one_line(&said)).into_owned();
    let whole = chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let fault = Fault::new(Code::AwsUnreachable, format!("{action}: AWS cannot be reached: {said}"));
    if whole.contains("dns error") || whole.contains("failed to lookup") {
        fault.next(format!("check that `{region}` is a Region, and the agent's resolver"))
    } else if whole.contains("certificate") {
        fault.next("a proxy that opens TLS needs its CA in AWS_CA_BUNDLE; check the agent's clock")
    } else {
        fault.next("check HTTPS_PROXY and NO_PROXY, or the VPC endpoints of a private subnet")
    }
}

/// The action that an access-denied message names.
fn denied_action(said: &str) -> Option<&str> {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"not authorized to perform:? ([a-zA-Z0-9-]+:[A-Za-z]+)").expect("the pattern is valid"));
    Some(WORDS.captures(said)?.get(1)?.as_str())
}

pub(super) fn no_credentials() -> Fault {
    Fault::new(Code::AwsCredentials, "there are no AWS credentials")
        .next("give the job a role (IRSA, Pod Identity, an instance profile, OIDC of the CI), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `cluster.profile`")
}

pub(super) fn of_credentials(error: &CredentialsError) -> Fault {
    let mut cause: &(dyn StdError + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let said = secrets::redact(&text::one_line(&cause.to_string())).into_owned();
    match error {
        CredentialsError::CredentialsNotLoaded(_) => no_credentials().evidence("the SDK's words", said),
        CredentialsError::InvalidConfiguration(_) => Fault::new(Code::AwsCredentials, format!("the AWS configuration cannot be used: {said}"))
            .next("check `cluster.profile` against ~/.aws/config and ~/.aws/credentials"),
        _ => Fault::new(Code::AwsCredentials, format!("AWS credentials cannot be had: {said}"))
            .next("check the role's trust policy, the web identity token, or log in again with SSO"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_have_their_faults() {
        for (code, message, expected, holds) in [
            ("ExpiredTokenException", "The security token included in the request is expired", Code::AwsCredentials, "expired"),
            ("UnrecognizedClientException", "The security token included in the request is invalid", Code::AwsCredentials, "does not know"),
            ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than", Code::AwsCredentials, "signature"),
            (
                "AccessDeniedException",
                "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: eks:DescribeCluster on resource: arn:aws:eks:x",
                Code::AwsDenied,
                "eks:DescribeCluster",
            ),
            ("Throttling", "Rate exceeded", Code::AwsFailed, "fewer calls"),
            ("ServerException", "oops", Code::AwsFailed, "ServerException: oops"),
        ] {
            let fault = of_service(code, message, "eks:Thing");
            assert_eq!(fault.code, expected, "{code}");
            assert!(fault.message.contains(holds), "{fault}");
        }
    }

    #[test]
    fn missing_credentials_are_found_below_the_dispatch() {
        let error: SdkError<aws_sdk_eks::operation::describe_cluster::DescribeClusterError, ()> =
            SdkError::construction_failure(CredentialsError::not_loaded("none"));
        assert_eq!(of_net(&error, "eks:DescribeCluster", "ap-southeast-1").code, Code::AwsCredentials);
    }
}
