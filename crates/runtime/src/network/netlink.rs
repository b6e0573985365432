//! Messages to the kernel about network interfaces and their addresses (rtnetlink(7)).
//!
//! A socket belongs to the network namespace it was made in, wherever its owner goes later.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;

/// NLM_F_*
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE_NEW: u16 = 0x600;

/// IFLA_*
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
/// IFA_*
const PEER: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;

/// IFF_UP
const UP: u32 = 1;
/// IFA_F_PERMANENT
const PERMANENT: u32 = 0x80;
/// IFA_F_NODAD, IFA_F_HOMEADDRESS, IFA_F_NOPREFIXROUTE: what somebody chose for the address.
const CHOSEN: u32 = 0x02 | 0x10 | 0x200;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
}

/// An address of an interface, as it can be given to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Of its attributes those that are the address: kind and bytes.
    parts: Vec<(u16, Vec<u8>)>,
}

/// A connection to the kernel.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

type Result<T> = std::result::Result<T, Errno>;

impl Socket {
    /// Connects in the network namespace that this process is in.
    pub(crate) fn new() -> Result<Self> {
        // No protocol is the first one, NETLINK_ROUTE.
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// Every interface of the namespace.
    pub(crate) fn links(&self) -> Result<Vec<Link>> {
        let found = self.dump(GET_LINK, &link_header(0, 0), NEW_LINK)?;
        Ok(found.iter().filter_map(|body| link(body)).collect())
    }

    /// The addresses of an interface that it is to keep in another namespace: permanent ones of global scope.
    pub(crate) fn lasting_addresses(&self, index: u32) -> Result<Vec<Address>> {
        let found = self.dump(GET_ADDRESS, &[0; 8], NEW_ADDRESS)?;
        Ok(found.iter().filter_map(|body| lasting_address(body, index)).collect())
    }

    /// Moves an interface to the namespace `to`, where it is called `name`.
    pub(crate) fn move_link(&self, index: u32, to: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut body = link_header(index, 0);
        attribute(&mut body, LINK_NAME, &[name.as_bytes(), b"\0"].concat());
        attribute(&mut body, LINK_NAMESPACE, &to.as_raw_fd().to_ne_bytes());
        self.ask(NEW_LINK, ACK, &body).map(drop)
    }

    /// Brings an interface up.
    pub(crate) fn set_up(&self, index: u32) -> Result<()> {
        self.ask(NEW_LINK, ACK, &link_header(index, UP)).map(drop)
    }

    /// Gives an interface an address.
    pub(crate) fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, 0];
        body.extend(index.to_ne_bytes());
        for (kind, bytes) in &address.parts {
            attribute(&mut body, *kind, bytes);
        }
        attribute(&mut body, FLAGS, &address.flags.to_ne_bytes());
        self.ask(NEW_ADDRESS, ACK | CREATE_NEW, &body).map(drop)
    }

    fn dump(&self, kind: u16, body: &[u8], answers: u16) -> Result<Vec<Vec<u8>>> {
        let all = self.ask(kind, DUMP, body)?;
        Ok(all.into_iter().filter(|(kind, _)| *kind == answers).map(|(_, body)| body).collect())
    }

    /// Sends a message, and gives the kinds and bodies of all that is answered.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
        send(&self.0, &message(kind, flags | REQUEST, body), SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            let length = match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?.0,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, after)) = first_message(rest) {
                match kind {
                    DONE => return Ok(answers),
                    ERROR => return errno(body).map_or(Ok(answers), Err),
                    _ => answers.push((kind, body.to_vec())),
                }
                rest = after;
            }
        }
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Its number and sender, which one question at a time does not need.
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// `struct ifinfomsg`: of all flags only IFF_UP is changed, and only to on.
fn link_header(index: u32, up: u32) -> Vec<u8> {
    [0, index, up, up].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

fn attribute(body: &mut Vec<u8>, kind: u16, bytes: &[u8]) {
    let length = u16::try_from(4 + bytes.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// The kind and body of the first message, and what comes after it.
fn first_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(word(bytes, 0)?).ok()?;
    let body = bytes.get(16..length)?;
    Some((half(bytes, 4)?, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// What an answer of kind `ERROR` says; none when all went well.
fn errno(body: &[u8]) -> Option<Errno> {
    let code = word(body, 0).map_or(Errno::IO.raw_os_error(), |word| word.cast_signed().wrapping_neg());
    (code != 0).then(|| Errno::from_raw_os_error(code))
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let (Some(length), Some(kind)) = (half(bytes, 0).map(usize::from), half(bytes, 2)) {
        let Some(value) = bytes.get(4..length) else { break };
        all.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn link(body: &[u8]) -> Option<Link> {
    let attributes = attributes(body.get(16..)?);
    let (_, name) = attributes.iter().find(|(kind, _)| *kind == LINK_NAME)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Link { index: word(body, 4)?, name: String::from_utf8_lossy(name).into_owned() })
}

fn lasting_address(body: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope] = *body.first_chunk::<4>()?;
    let attributes = attributes(body.get(8..)?);
    let long = attributes.iter().find(|(kind, _)| *kind == FLAGS).and_then(|(_, bytes)| word(bytes, 0));
    let flags = long.unwrap_or_else(|| flags.into());
    if word(body, 4)? != index || scope != 0 || flags & PERMANENT == 0 {
        return None;
    }
    let parts = attributes.into_iter().filter(|(kind, _)| matches!(*kind, PEER | LOCAL | BROADCAST));
    let parts = parts.map(|(kind, bytes)| (kind, bytes.to_vec())).collect();
    Some(Address { family, prefix, flags: flags & CHOSEN, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let links = Socket::new().unwrap().links().unwrap();
        assert!(links.contains(&Link { index: 1, name: "lo".to_owned() }), "{links:?}");
    }

    #[test]
    fn what_the_kernel_refuses_is_said() {
        assert_eq!(Socket::new().unwrap().set_up(0x7fff_fff0).unwrap_err(), Errno::NODEV);
    }

    #[test]
    fn attributes_end_at_what_is_broken() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"abcde");
        attribute(&mut body, 4, b"");
        body.extend([200, 0, 5, 0, 1]);
        assert_eq!(attributes(&body), [(3, &b"abcde"[..]), (4, &b""[..])]);
        assert_eq!(first_message(&message(9, 1, b"x")), Some((9, &b"x"[..], &b""[..])));
        assert!(first_message(&[255, 0, 0, 0, 1, 2]).is_none());
    }

    #[test]
    fn only_lasting_addresses_are_kept() {
        let body = |scope: u8, flags: u32| {
            let mut body = vec![2, 24, 0, scope, 7, 0, 0, 0];
            attribute(&mut body, LOCAL, &[10, 0, 0, 1]);
            attribute(&mut body, 3, b"eth0\0");
            attribute(&mut body, FLAGS, &flags.to_ne_bytes());
            body
        };
        let kept = lasting_address(&body(0, 0x282), 7).unwrap();
        assert_eq!(kept, Address { family: 2, prefix: 24, flags: 0x202, parts: vec![(LOCAL, vec![10, 0, 0, 1])] });
        assert!(lasting_address(&body(0, 0x80), 8).is_none());
        assert!(lasting_address(&body(253, 0x80), 7).is_none());
        assert!(lasting_address(&body(0, 0), 7).is_none());
    }
}
