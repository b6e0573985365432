//! Names to addresses without the C library's NSS, which a static program cannot load (hosts(5), resolv.conf(5)).

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// As many addresses as the connector takes.
const MAX_ADDRESSES: usize = 16;
/// How long all servers together may take when the caller sets no limit.
const DEFAULT_LIMIT: Duration = Duration::from_secs(15);

/// Resolves address literals, `/etc/hosts`, then the servers of `/etc/resolv.conf`.
#[derive(Debug)]
pub(crate) struct HostResolver;

impl Resolver for HostResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let authority = uri.authority().ok_or(Error::HostNotFound)?;
        let default_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = authority.port_u16().unwrap_or(default_port);
        let limit = if timeout.after.is_not_happening() { DEFAULT_LIMIT } else { *timeout.after };
        let found = look_up(authority.host(), Instant::now() + limit)?;
        let mut result = self.empty();
        for address in found.into_iter().take(MAX_ADDRESSES) {
            result.push(SocketAddr::new(address, port));
        }
        if result.is_empty() { Err(Error::HostNotFound) } else { Ok(result) }
    }
}

fn look_up(host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found = in_hosts(&hosts, host);
    if !found.is_empty() {
        return Ok(found);
    }
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        return Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
    }
    let servers = Servers::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    for name in servers.names(host) {
        let found = servers.ask(&name, deadline)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let address_of = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    lines.filter_map(address_of).collect()
}

/// What resolv.conf(5) says.
#[derive(Debug, PartialEq)]
struct Servers {
    addresses: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Servers {
    fn parse(text: &str) -> Self {
        let mut servers =
            Self { addresses: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(3), attempts: 2 };
        for line in text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default()) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|w| w.split('%').next()?.parse::<IpAddr>().ok());
                    servers.addresses.extend(address.map(|a| SocketAddr::new(a, 53)));
                }
                Some("search" | "domain") => servers.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| servers.option(word)),
                _ => {}
            }
        }
        servers.addresses.truncate(3);
        if servers.addresses.is_empty() {
            servers.addresses.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
        servers
    }

    fn option(&mut self, word: &str) {
        let Some((name, Ok(value))) = word.split_once(':').map(|(n, v)| (n, v.parse::<u32>())) else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names to try for `host`, in order.
    fn names(&self, host: &str) -> Vec<String> {
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let at = if host.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(at, host.to_owned());
        names
    }

    /// The addresses of a name, IPv4 first; none when it has none.
    fn ask(&self, name: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut found = self.ask_type(name, TYPE::A, deadline)?;
        // A name that IPv4 answers needs no answer for IPv6.
        match self.ask_type(name, TYPE::AAAA, deadline) {
            Ok(more) => found.extend(more),
            Err(error) if found.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(found)
    }

    fn ask_type(&self, name: &str, kind: TYPE, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::new(io::ErrorKind::TimedOut, "no name server answers");
        for _ in 0..self.attempts {
            for server in &self.addresses {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(last);
                }
                match exchange(*server, name, kind, self.timeout.min(left)) {
                    Ok(found) => return Ok(found),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }
}

/// Asks one server over UDP, and over TCP when the answer did not fit.
fn exchange(server: SocketAddr, name: &str, kind: TYPE, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let id = random_id()?;
    let query = query(id, name, kind)?;
    let local: IpAddr = if server.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0u8; 16]) };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(server)?;
    let until = Instant::now() + timeout;
    socket.send(&query)?;
    let mut buffer = [0; 1500];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("name server {server} does not answer")));
        }
        socket.set_read_timeout(Some(left))?;
        let count = match socket.recv(&mut buffer) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            other => other?,
        };
        match parse_answer(buffer.get(..count).unwrap_or_default(), id, kind)? {
            Answer::Other => {}
            Answer::Truncated => return exchange_tcp(server, &query, id, kind, timeout),
            Answer::Addresses(found) => return Ok(found),
        }
    }
}

fn exchange_tcp(server: SocketAddr, query: &[u8], id: u16, kind: TYPE, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    match parse_answer(&answer, id, kind)? {
        Answer::Addresses(found) => Ok(found),
        Answer::Other | Answer::Truncated => Err(io::Error::other("the name server's answer is no answer")),
    }
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn query(id: u16, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// What a packet says.
#[derive(Debug, PartialEq)]
enum Answer {
    /// It does not answer the question asked, or is damaged.
    Other,
    /// It says to ask again over TCP.
    Truncated,
    /// The addresses; the server has followed aliases.
    Addresses(Vec<IpAddr>),
}

fn parse_answer(bytes: &[u8], id: u16, kind: TYPE) -> io::Result<Answer> {
    let Ok(packet) = Packet::parse(bytes) else { return Ok(Answer::Other) };
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Ok(Answer::Other);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Answer::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Answer::Addresses(Vec::new())),
        code => return Err(io::Error::other(format!("the name server answers {code:?}"))),
    }
    let address = |data: &RData<'_>| match (data, kind) {
        (RData::A(a), TYPE::A) => Some(IpAddr::from(a.address.to_be_bytes())),
        (RData::AAAA(a), TYPE::AAAA) => Some(IpAddr::from(a.address.to_be_bytes())),
        _ => None,
    };
    Ok(Answer::Addresses(packet.answers.iter().filter_map(|record| address(&record.rdata)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_packet_is_borne(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0usize..60, byte: u8) {
            parse_answer(&bytes, 7, TYPE::A).map(drop).unwrap_or_default();
            let mut packet = reply(7, 0x8180);
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
            parse_answer(&packet, 7, TYPE::AAAA).map(drop).unwrap_or_default();
        }
    }

    #[test]
    fn files() {
        let hosts = "# c\n127.0.0.1 localhost\n10.0.0.7\tReg.example r # x\nbad line\n::1 localhost\n";
        assert_eq!(in_hosts(hosts, "reg.example"), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        assert_eq!(in_hosts(hosts, "x"), [] as [IpAddr; 0]);
        let text = "nameserver 10.0.0.1\nsearch a.x b.x\noptions ndots:2 timeout:9999 attempts:0 rotate\n";
        let servers = Servers::parse(text);
        assert_eq!(servers.addresses, ["10.0.0.1:53".parse().unwrap()]);
        assert_eq!(servers.names("r.y"), ["r.y.a.x", "r.y.b.x", "r.y"]);
        assert_eq!(servers.names("r.y.z").first().unwrap(), "r.y.z");
        assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(30), 1));
    }

    /// A reply of one compressed CNAME and one A record, written by hand from RFC 1035.
    fn reply(id: u16, flags: u16) -> Vec<u8> {
        let mut bytes = [id.to_be_bytes(), flags.to_be_bytes(), [0, 1], [0, 2], [0, 0], [0, 0]].concat();
        bytes.extend(b"\x01r\x01x\x00\x00\x01\x00\x01");
        bytes.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01c\xc0\x0e");
        bytes.extend(b"\xc0\x21\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07");
        bytes
    }

    #[test]
    fn packets() {
        let want = Answer::Addresses(vec!["10.0.0.7".parse().unwrap()]);
        assert_eq!(parse_answer(&reply(7, 0x8180), 7, TYPE::A).unwrap(), want);
        assert_eq!(parse_answer(&reply(7, 0x8180), 8, TYPE::A).unwrap(), Answer::Other, "another's id");
        assert_eq!(parse_answer(&reply(7, 0x0100), 7, TYPE::A).unwrap(), Answer::Other, "a question");
        assert_eq!(parse_answer(&reply(7, 0x8380), 7, TYPE::A).unwrap(), Answer::Truncated);
        assert_eq!(parse_answer(&reply(7, 0x8183), 7, TYPE::A).unwrap(), Answer::Addresses(vec![]));
        assert!(parse_answer(&reply(7, 0x8182), 7, TYPE::A).is_err());
        for length in 0..reply(7, 0x8180).len() {
            assert_eq!(parse_answer(&reply(7, 0x8180)[..length], 7, TYPE::A).unwrap(), Answer::Other);
        }
        assert!(query(1, &"a".repeat(64), TYPE::A).is_err());
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let error = exchange(address, "r.x", TYPE::A, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
