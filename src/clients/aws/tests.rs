//! AWS against a scripted endpoint: what is asked, what is read, what a refusal means.

use serde_json::{Value, json};
use wiremock::matchers::{body_string_contains, header, header_exists, method, path};
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

#[tokio::test]
async fn a_certificate_is_described_or_not_there() {
    let server = MockServer::start().await;
    let found = json!({"Certificate": {
        "CertificateArn": "arn:a", "DomainName": "*.public.domain", "SubjectAlternativeNames": ["*.public.domain", "public.domain"],
        "Status": "ISSUED", "NotAfter": 1_798_761_600.0,
        "RenewalSummary": {"RenewalStatus": "PENDING_VALIDATION", "RenewalStatusReason": "CAA_ERROR"},
    }});
    let asked = |arn: &str| {
        let target = header("x-amz-target", "CertificateManager.DescribeCertificate");
        Mock::given(method("POST")).and(path("/")).and(target).and(header_exists("authorization")).and(body_string_contains(arn))
    };
    asked("arn:a").respond_with(ResponseTemplate::new(200).set_body_json(found)).mount(&server).await;
    let missing = json!({"__type": "com.amazonaws.acm#ResourceNotFoundException", "message": "Could not find certificate arn:b."});
    asked("arn:b").respond_with(ResponseTemplate::new(400).set_body_json(missing)).mount(&server).await;
    let denied =
        json!({"__type": "AccessDeniedException", "Message": "User: arn:aws:iam::1:user/ci is not authorized to perform: acm:DescribeCertificate"});
    asked("arn:c").respond_with(ResponseTemplate::new(400).set_body_json(denied)).mount(&server).await;
    let aws = aws(&server.uri()).await;
    let found = aws.certificate("arn:a").await.expect("asked").expect("found");
    assert_eq!((found.status.as_str(), found.domains.len(), found.reason.as_str()), ("ISSUED", 2, "CAA_ERROR"));
    assert_eq!(found.not_after.map(|end| end.to_string()).as_deref(), Some("2027-01-01T00:00:00Z"));
    assert_eq!(aws.certificate("arn:b").await.expect("asked"), None);
    assert_eq!(aws.certificate("arn:c").await.expect_err("denied").code, Code::AwsDenied);
}

#[tokio::test]
async fn subnets_are_read_with_their_tags() {
    let server = MockServer::start().await;
    let body = r#"<DescribeSubnetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><subnetSet>
        <item><subnetId>subnet-1</subnetId><availabilityZone>ap-southeast-1a</availabilityZone><availableIpAddressCount>4091</availableIpAddressCount>
        <tagSet><item><key>kubernetes.io/role/elb</key><value>1</value></item><item><key>Name</key><value>a &amp; b</value></item></tagSet></item>
        <item><subnetId>subnet-2</subnetId><availabilityZone>ap-southeast-1b</availabilityZone>
        <availableIpAddressCount>3</availableIpAddressCount></item>
        </subnetSet></DescribeSubnetsResponse>"#;
    let asked = Mock::given(method("POST")).and(body_string_contains("Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1"));
    asked.respond_with(ResponseTemplate::new(200).set_body_raw(body, "text/xml")).mount(&server).await;
    let refusal = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized</Message></Error></Errors></Response>";
    let asked = Mock::given(method("POST")).and(body_string_contains("vpc-2"));
    asked.respond_with(ResponseTemplate::new(403).set_body_raw(refusal, "text/xml")).mount(&server).await;
    let aws = aws(&server.uri()).await;
    let found = aws.subnets("vpc-1").await.expect("asked");
    assert_eq!((found[0].zone.as_str(), found[0].free_addresses, found[0].tags["Name"].as_str()), ("ap-southeast-1a", 4091, "a & b"));
    assert_eq!((found.len(), found[1].tags.len()), (2, 0));
    assert_eq!(aws.subnets("vpc-2").await.expect_err("denied").code, Code::AwsDenied);
}
