//! A socket that a runtime sends a descriptor to: of a terminal, of a process.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Listens at `path` for one message with one descriptor, in a thread.
pub fn receive_at(path: &Path) -> JoinHandle<(String, OwnedFd)> {
    let listener = UnixListener::bind(path).expect("listen on a socket");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the runtime connects");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&stream, &mut parts, &mut control, RecvFlags::empty()).expect("a message comes").bytes;
        let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
            panic!("no descriptor came")
        };
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), fds.next().expect("one descriptor"))
    })
}
