//! AWS against a scripted endpoint: what is asked, what is read, what a refusal means.

use serde_json::{Value, json};
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

async fn aws(endpoint: &str) -> Aws {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let overlay = [("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "aws-tests-secret")].map(own);
    let account = Account { region: Some("ap-southeast-1".into()), profile: Some("no-such-profile".into()), ..Account::default() };
    Aws::connect(&account, &Settings::from_vars([], overlay)).await.expect("connected")
}

async fn eks_says(status: u16, error: &str, body: Value) -> Result<ClusterInfo> {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).insert_header("x-amzn-errortype", error).set_body_json(body);
    Mock::given(method("GET")).and(path("/clusters/shop-eks")).respond_with(answer).mount(&server).await;
    aws(&server.uri()).await.describe_cluster("shop-eks").await
}

#[tokio::test]
async fn a_cluster_is_described() {
    let body = json!({"cluster": {
        "name": "shop-eks", "arn": "arn:aws:eks:ap-southeast-1:123456789012:cluster/shop-eks", "version": "1.34", "status": "ACTIVE",
        "endpoint": "https://x.example", "certificateAuthority": {"data": "Y2E="},
        "resourcesVpcConfig": {"endpointPublicAccess": true, "endpointPrivateAccess": true, "publicAccessCidrs": ["203.0.113.0/24"]},
        "accessConfig": {"authenticationMode": "API"}, "health": {"issues": [{"code": "Ec2SubnetNotFound", "message": "gone"}]},
    }});
    let info = eks_says(200, "", body).await.expect("described");
    assert_eq!((info.status.as_str(), info.version.as_str(), info.ca_data.as_str()), ("ACTIVE", "1.34", "Y2E="));
    assert!(info.public_access && info.private_access && !info.auto_mode);
    assert_eq!((info.public_cidrs, info.authentication_mode.as_str()), (vec!["203.0.113.0/24".to_owned()], "API"));
    assert_eq!(info.health, [Health { code: "Ec2SubnetNotFound".into(), message: "gone".into() }]);
}

#[tokio::test]
async fn refusals_of_eks_have_their_codes() {
    let denied = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: eks:DescribeCluster on resource: arn:aws:eks:x";
    for (status, error, message, code) in [
        (404, "ResourceNotFoundException", "No cluster found for name: shop-eks.", Code::ClusterNotFound),
        (403, "AccessDeniedException", denied, Code::AwsDenied),
        (403, "ExpiredTokenException", "The security token included in the request is expired", Code::AwsCredentials),
        (400, "ClientException", "oops", Code::AwsFailed),
    ] {
        let fault = eks_says(status, error, json!({"message": message})).await.expect_err(error);
        assert_eq!(fault.code, code, "{fault:?}");
        assert!(!format!("{fault:?}").contains("aws-tests-secret"));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unreachable() {
    let fault = aws("http://127.0.0.1:1").await.describe_cluster("shop-eks").await.expect_err("nothing listens on port 1");
    assert_eq!(fault.code, Code::AwsUnreachable, "{fault:?}");
}

async fn elb(server: &MockServer, action: &str, result: &str) {
    let body = format!(
        r#"<{action}Response xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"#
    );
    let asked = Mock::given(method("POST")).and(body_string_contains(format!("Action={action}&")));
    asked.respond_with(ResponseTemplate::new(200).set_body_raw(body, "text/xml")).mount(server).await;
}

#[tokio::test]
async fn a_load_balancer_is_found_by_its_name_with_its_targets() {
    let server = MockServer::start().await;
    let balancer = "<LoadBalancers><member><LoadBalancerArn>arn:lb</LoadBalancerArn><LoadBalancerName>k8s-a</LoadBalancerName>\
        <DNSName>K8S-a-1234.ap-southeast-1.elb.amazonaws.com</DNSName><Scheme>internet-facing</Scheme><State><Code>failed</Code><Reason>no addresses</Reason></State>\
        <AvailabilityZones><member><ZoneName>ap-southeast-1a</ZoneName><SubnetId>subnet-1</SubnetId></member></AvailabilityZones></member></LoadBalancers>";
    elb(&server, "DescribeLoadBalancers", balancer).await;
    let health = "<TargetHealthDescriptions><member><Target><Id>i-1</Id><Port>30080</Port></Target>\
        <TargetHealth><State>unhealthy</State><Reason>Target.Timeout</Reason><Description>Request timed out</Description></TargetHealth></member></TargetHealthDescriptions>";
    elb(&server, "DescribeTargetHealth", health).await;
    let aws = aws(&server.uri()).await;
    let found = aws.load_balancer("k8s-a-1234.ap-southeast-1.elb.amazonaws.com").await.expect("asked").expect("found");
    assert_eq!((found.state.as_str(), found.reason.as_str(), found.zones.len()), ("failed", "no addresses", 1));
    assert!(aws.load_balancer("k8s-b-1234.ap-southeast-1.elb.amazonaws.com").await.expect("asked").is_none());
    let target = &aws.target_health("arn:tg").await.expect("asked")[0];
    assert_eq!((target.id.as_str(), target.port, target.reason.as_str()), ("i-1", 30080, "Target.Timeout"));
}
