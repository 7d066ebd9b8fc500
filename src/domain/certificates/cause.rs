//! The causes of a refused certificate, and what cures each.

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;

/// Why the gateway and a workload do not trust each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The workload runs with a certificate of a former root.
    StaleWorkload,
    /// The gateway is the one with the former root.
    StaleGateway,
    /// A ConfigMap does not hold the root that istiod signs with: a new pod would start with the wrong one.
    StaleConfigMap,
    /// No certificates can be had from istiod.
    CaBroken,
    LeafExpired,
    ClockSkew,
    /// Trusted, but for another identity.
    SanMismatch,
    /// A DestinationRule's own TLS settings.
    OwnConfig,
    TwoControlPlanes,
    /// The pod does not speak TLS.
    Plaintext,
    InjectorUntrusted,
    /// Not proven to be about certificates.
    Unknown,
}

/// What a restart does for a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Restarting the workload cures it.
    Workload,
    /// Restarting the gateway cures it, and only that.
    Gateway,
    /// A restart helps only after what is named by the remedy.
    Later,
    No,
}

impl Cause {
    pub const ALL: [Cause; 12] = [
        Cause::StaleWorkload,
        Cause::StaleGateway,
        Cause::StaleConfigMap,
        Cause::CaBroken,
        Cause::LeafExpired,
        Cause::ClockSkew,
        Cause::SanMismatch,
        Cause::OwnConfig,
        Cause::TwoControlPlanes,
        Cause::Plaintext,
        Cause::InjectorUntrusted,
        Cause::Unknown,
    ];

    /// Does a restart help, and of what?
    pub fn restart(self) -> Restart {
        match self {
            Cause::StaleWorkload => Restart::Workload,
            Cause::StaleGateway => Restart::Gateway,
            Cause::StaleConfigMap | Cause::CaBroken | Cause::LeafExpired | Cause::InjectorUntrusted => Restart::Later,
            Cause::ClockSkew | Cause::SanMismatch | Cause::OwnConfig | Cause::TwoControlPlanes | Cause::Plaintext | Cause::Unknown => Restart::No,
        }
    }

    /// The code under which reports show it.
    pub fn code(self) -> Code {
        match self {
            Cause::StaleWorkload => Code::StaleCertificate,
            Cause::StaleGateway => Code::StaleGateway,
            Cause::StaleConfigMap => Code::StaleConfigMap,
            Cause::CaBroken => Code::CaBroken,
            Cause::LeafExpired => Code::LeafExpired,
            Cause::ClockSkew => Code::NodeClock,
            Cause::SanMismatch => Code::SanMismatch,
            Cause::OwnConfig => Code::OwnTlsConfig,
            Cause::TwoControlPlanes => Code::TwoControlPlanes,
            Cause::Plaintext => Code::PlaintextPort,
            Cause::InjectorUntrusted => Code::InjectorUntrusted,
            Cause::Unknown => Code::UpstreamFailed,
        }
    }

    /// In words, as a sentence about the pods goes on.
    pub fn words(self) -> &'static str {
        match self {
            Cause::StaleWorkload => "the workload still has a certificate of a former root",
            Cause::StaleGateway => "the gateway still has a former root",
            Cause::StaleConfigMap => "ConfigMap istio-ca-root-cert does not hold the root that istiod signs with",
            Cause::CaBroken => "no certificates can be had from istiod",
            Cause::LeafExpired => "a certificate has expired and was not renewed",
            Cause::ClockSkew => "a node's clock is wrong",
            Cause::SanMismatch => "the certificate is trusted, but for another identity",
            Cause::OwnConfig => "a DestinationRule sets TLS of its own",
            Cause::TwoControlPlanes => "two control planes sign with different roots",
            Cause::Plaintext => "the pod does not speak TLS",
            Cause::InjectorUntrusted => "the API server does not trust the sidecar injector",
            Cause::Unknown => "nothing proves that certificates are behind it",
        }
    }

    /// What cures it.
    pub fn remedy(self) -> &'static str {
        match self {
            Cause::StaleWorkload => "redeploy the service: `meshstep redeploy`",
            Cause::StaleGateway => "restart the gateway, and nothing else: `meshstep redeploy`",
            Cause::StaleConfigMap => {
                "restart istiod so that it writes its root into ConfigMap istio-ca-root-cert: `kubectl -n istio-system rollout restart deployment/istiod`; a restarted workload would fail the same way"
            }
            Cause::CaBroken => "bring istiod and its CA in order first: its log names the fault; a restarted workload would get no certificate",
            Cause::LeafExpired => {
                "find out why the certificate was not renewed (istiod, its CA, the service account's token); once istiod signs again, restart the workload"
            }
            Cause::ClockSkew => "correct the nodes' clocks; a restart does not help",
            Cause::SanMismatch => "check trustDomain and DestinationRule.subjectAltNames; a restart does not help",
            Cause::OwnConfig => "check the TLS settings of the DestinationRule; a restart does not help",
            Cause::TwoControlPlanes => {
                "give both control planes the same root (`cacerts`), or move the workloads to one of them; a restart does not help"
            }
            Cause::Plaintext => "check injection, PeerAuthentication, DestinationRule and excluded ports; a restart does not help",
            Cause::InjectorUntrusted => {
                "restart istiod so that it writes its root into its webhooks' caBundle; until then a restarted workload gets no new pod"
            }
            Cause::Unknown => "look at the sidecar's and the gateway's logs: `meshstep troubleshoot`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_causes_are_cured_by_a_restart_alone() {
        let cured: Vec<Cause> = Cause::ALL.into_iter().filter(|c| matches!(c.restart(), Restart::Workload | Restart::Gateway)).collect();
        assert_eq!(cured, [Cause::StaleWorkload, Cause::StaleGateway]);
        for cause in Cause::ALL {
            assert!(!cause.remedy().ends_with('.') && !cause.words().is_empty(), "{cause:?}");
            assert_eq!(cause.code().info().restart_helps, matches!(cause.restart(), Restart::Workload | Restart::Gateway), "{cause:?}");
        }
    }
}
