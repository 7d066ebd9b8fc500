//! Two questions to services whose SDKs are not worth their size: a certificate of ACM, the subnets of a VPC. Signed here, sent by the
//! same way as the SDK's own calls.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::SystemTime;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::Timestamp;
use roxmltree::{Document, Node};
use serde_json::{Value, json};

use super::{ATTEMPT, Aws, fault, token};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};

/// A certificate as ACM describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    pub arn: String,
    /// `ISSUED`, `PENDING_VALIDATION`, `EXPIRED`, …
    pub status: String,
    pub domains: Vec<String>,
    pub not_after: Option<Timestamp>,
    /// Why it could not be issued or renewed; usually empty.
    pub reason: String,
}

/// A subnet as EC2 describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub zone: String,
    pub free_addresses: u32,
    pub tags: BTreeMap<String, String>,
}

impl Aws {
    /// A certificate of ACM; `None` when there is none of this ARN.
    pub async fn certificate(&self, arn: &str) -> Result<Option<Certificate>> {
        let action = "acm:DescribeCertificate";
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "CertificateManager.DescribeCertificate")];
        let (status, body) = self.post("acm", &self.inner.acm, &headers, json!({"CertificateArn": arn}).to_string(), action).await?;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        if status != 200 {
            let (code, message) = (text("/__type"), [text("/message"), text("/Message")].concat());
            let code = code.rsplit('#').next().unwrap_or_default();
            return if code == "ResourceNotFoundException" { Ok(None) } else { Err(refused(status, code, &message, action)) };
        }
        let reason = ["/Certificate/FailureReason", "/Certificate/RenewalSummary/RenewalStatusReason", "/Certificate/RevocationReason"];
        let mut domains = vec![text("/Certificate/DomainName")];
        for name in answer.pointer("/Certificate/SubjectAlternativeNames").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !domains.iter().any(|known| known == name) {
                domains.push(name.to_owned());
            }
        }
        Ok(Some(Certificate {
            arn: arn.to_owned(),
            status: text("/Certificate/Status"),
            domains,
            not_after: answer.pointer("/Certificate/NotAfter").and_then(Value::as_f64).and_then(seconds),
            reason: reason.into_iter().map(text).find(|reason| !reason.is_empty()).unwrap_or_default(),
        }))
    }

    /// All subnets of a VPC.
    pub async fn subnets(&self, vpc: &str) -> Result<Vec<Subnet>> {
        let action = "ec2:DescribeSubnets";
        let query = [("Action", "DescribeSubnets"), ("Version", "2016-11-15"), ("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", vpc)];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let (status, body) = self.post("ec2", &self.inner.ec2, &headers, body, action).await?;
        let unreadable = |error: &dyn Display| Fault::new(Code::AwsFailed, format!("{action}: the answer is not readable: {error}"));
        let document = Document::parse(&body).map_err(|error| unreadable(&error))?;
        if status != 200 {
            let text = |name: &str| document.descendants().find(|node| node.has_tag_name(name)).and_then(|node| node.text()).unwrap_or_default();
            return Err(refused(status, text("Code"), text("Message"), action));
        }
        let set = document.descendants().find(|node| node.tag_name().name() == "subnetSet");
        Ok(set.into_iter().flat_map(|set| items(set)).map(subnet).collect())
    }

    /// One signed POST to the root of a service: status and body.
    async fn post(&self, service: &str, endpoint: &str, headers: &[(&str, &str)], body: String, action: &str) -> Result<(u16, String)> {
        let failed = |error: &dyn Display| Fault::new(Code::AwsFailed, format!("{action} cannot be asked for: {error}"));
        let identity = self.credentials().await?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region())
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let url = format!("{}/", endpoint.trim_end_matches('/'));
        let signable = SignableRequest::new("POST", &url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()));
        let (instructions, _signature) = sign(signable.map_err(|error| failed(&error))?, &params).map_err(|error| failed(&error))?.into_parts();
        let mut request = http::Request::post(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(SdkBody::from(body)).map_err(|error| failed(&error))?;
        instructions.apply_to_request_http1x(&mut request);
        let request = HttpRequest::try_from(request).map_err(|error| failed(&error))?;
        let connector: &Connector = &self.inner.connector;
        let sent = async {
            let answer = connector.call(request).await.map_err(|error| fault::of_net(&error, action, self.region()))?;
            let status = answer.status().as_u16();
            let body = ByteStream::new(answer.into_body()).collect().await.map_err(|error| failed(&error))?;
            Ok((status, String::from_utf8_lossy(&body.into_bytes()).into_owned()))
        };
        match tokio::time::timeout(ATTEMPT, sent).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::new(Code::AwsUnreachable, format!("{action}: no answer within {} s", ATTEMPT.as_secs()))),
        }
    }
}

/// A service's public address in a Region.
pub(super) fn endpoint(service: &str, region: &str) -> String {
    format!("https://{service}.{region}.{}", token::domain(region))
}

fn refused(status: u16, code: &str, message: &str, action: &str) -> Fault {
    if code.is_empty() { Fault::new(Code::AwsFailed, format!("{action}: status {status}")) } else { fault::of_service(code, message, action) }
}

fn seconds(since_epoch: f64) -> Option<Timestamp> {
    // Certificates end in whole seconds of this era, so nothing is lost.
    format!("{since_epoch:.0}").parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

fn items<'a>(set: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    set.children().filter(|node| node.tag_name().name() == "item")
}

fn text<'a>(node: Node<'a, 'a>, name: &str) -> &'a str {
    node.children().find(|child| child.tag_name().name() == name).and_then(|child| child.text()).unwrap_or_default()
}

fn subnet(item: Node) -> Subnet {
    let tags = item.children().filter(|child| child.tag_name().name() == "tagSet").flat_map(items);
    Subnet {
        id: text(item, "subnetId").to_owned(),
        zone: text(item, "availabilityZone").to_owned(),
        free_addresses: text(item, "availableIpAddressCount").parse().unwrap_or(0),
        tags: tags.map(|tag| (text(tag, "key").to_owned(), text(tag, "value").to_owned())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_address_in_each_partition() {
        assert_eq!(endpoint("acm", "ap-southeast-1"), "https://acm.ap-southeast-1.amazonaws.com");
        assert_eq!(endpoint("ec2", "cn-north-1"), "https://ec2.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn times_are_seconds_with_a_point() {
        assert_eq!(seconds(1_767_225_600.0).map(|time| time.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(seconds(f64::NAN), None);
    }
}
