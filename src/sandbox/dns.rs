//! The name server on loopback: load balancers' names once they are active, NXDOMAIN before, over UDP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record};
use tokio::net::UdpSocket;

const TTL: u32 = 60;

/// Says what a name has: its addresses, or `None` for NXDOMAIN. The name is lower-case and without its last dot.
pub(super) type Lookup = Arc<dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync>;

/// Starts the server and tells its address.
///
/// # Errors
/// When no loopback port can be had.
pub(super) async fn serve(lookup: Lookup, silent: bool) -> Result<(SocketAddr, tokio::task::AbortHandle), String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("name server: {error}"))?;
    let address = socket.local_addr().map_err(|error| format!("name server: {error}"))?;
    let task = tokio::spawn(async move {
        let mut buffer = [0u8; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if silent {
                continue;
            }
            if let Some(answer) = answer(&buffer[..length], &lookup) {
                // a client that went away needs no answer
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok((address, task.abort_handle()))
}

fn answer(query: &[u8], lookup: &Lookup) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let question = query.queries.first()?.clone();
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    match lookup(&name) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            let wanted = |data: &RData| data.record_type() == question.query_type();
            for data in addresses.into_iter().map(data).filter(wanted) {
                answer.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
            }
        }
    }
    answer.add_query(question);
    answer.to_vec().ok()
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    fn ask(name: &str, kind: RecordType) -> Message {
        let lookup: Lookup = Arc::new(|name| match name {
            "lb.example" => Some(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
            "both.example" => Some(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]),
            _ => None,
        });
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let bytes = answer(&query.to_vec().expect("encodes"), &lookup).expect("answers");
        Message::from_vec(&bytes).expect("decodes")
    }

    #[test]
    fn known_names_have_an_address_and_others_do_not_exist() {
        let known = ask("LB.example.", RecordType::A);
        assert_eq!((known.metadata.id, known.metadata.response_code, known.answers.len()), (7, ResponseCode::NoError, 1));
        assert_eq!(ask("lb.example.", RecordType::AAAA).answers.len(), 0);
        for kind in [RecordType::A, RecordType::AAAA] {
            let answers = ask("both.example.", kind).answers;
            assert_eq!(answers.iter().map(Record::record_type).collect::<Vec<_>>(), [kind]);
        }
        assert_eq!(ask("other.example.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    }
}
