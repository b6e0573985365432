//! Connections: one, or those that come to passed sockets.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::io::{Errno, ioctl_fionbio};
use hoy_sys::rustix::net::{SocketFlags, accept_with, sockopt::socket_acceptconn};

use crate::fault::Fault;
use crate::message::{Body, NoRequest, Request};
use crate::service::{Service, Session};
use crate::wire::Wire;

/// How many connections are served at once; more wait.
const MAX_CONNECTIONS: usize = 64;

/// Serves the connection that is read from `input` and written to `output` until its client ends it, or is silent for
/// `patience` in the midst of something. A client behind a pipe may rest between requests: the end of a pipe is noticed.
///
/// # Errors
/// None that the client could still be told; those of the connection itself end it without a word.
pub fn converse(service: &Service, input: OwnedFd, output: OwnedFd, patience: Duration) {
    let mut wire = Wire::new(input, output, patience);
    let mut session = Session::default();
    let idle = wire.is_socket().then_some(patience);
    loop {
        let request = match Request::read(&mut wire, idle) {
            Ok(request) => request,
            Err(no) => return refuse(&mut wire, no),
        };
        let mut body = match Body::of(&request, &mut wire) {
            Ok(body) => body,
            Err(no) => return refuse(&mut wire, no),
        };
        let response = service.answer(&mut session, &request, &mut body);
        let goes_on = body.skip() && !request.is_last();
        match response.send(&mut wire, request.method == "HEAD", !goes_on) {
            Ok(true) => {}
            // The client is gone, or has been told that this was the last.
            _ => return,
        }
    }
}

fn refuse(wire: &mut Wire, no: NoRequest) {
    if let NoRequest::Bad(status, text) = no {
        // Whoever sends such may not listen either.
        let fault = Fault::new(status, "UNSUPPORTED", text);
        fault.response().send(wire, false, true).and_then(|_| wire.flush()).unwrap_or_default();
    }
}

/// Whether connections come to the socket, or it is one.
///
/// # Errors
/// When it is no socket.
pub fn is_listening(socket: &OwnedFd) -> io::Result<bool> {
    Ok(socket_acceptconn(socket)?)
}

/// Serves all who connect to the listening `sockets`, each in a thread, until nobody has been there for `patience`.
///
/// # Errors
/// Those of poll(2) and accept(2).
pub fn serve(service: &Arc<Service>, sockets: &[OwnedFd], patience: Duration) -> io::Result<()> {
    for socket in sockets {
        // Another process that has the socket too may be faster.
        ioctl_fionbio(socket, true)?;
    }
    let open = Arc::new(Open::default());
    loop {
        open.await_room();
        let mut waiting: Vec<PollFd<'_>> = sockets.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
        let limit = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut waiting, Some(&limit)) {
            Err(Errno::INTR) => continue,
            Ok(0) if open.is_idle_for(patience) => return Ok(()),
            other => other?,
        };
        let ready: Vec<bool> = waiting.iter().map(|w| !w.revents().is_empty()).collect();
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, is_ready)| *is_ready) {
            match accept_with(socket.as_fd(), SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    let (service, guest) = (Arc::clone(service), open.enter());
                    let output = connection.try_clone()?;
                    std::thread::Builder::new().spawn(move || {
                        converse(&service, connection, output, patience);
                        drop(guest);
                    })?;
                }
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// How many connections there are.
#[derive(Debug)]
struct Open {
    count: Mutex<(usize, Instant)>,
    changed: Condvar,
}

impl Default for Open {
    fn default() -> Self {
        Self { count: Mutex::new((0, Instant::now())), changed: Condvar::new() }
    }
}

/// One connection, counted while it exists.
struct Guest(Arc<Open>);

impl Drop for Guest {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = (count.0 - 1, Instant::now());
        self.0.changed.notify_all();
    }
}

impl Open {
    fn enter(self: &Arc<Self>) -> Guest {
        self.count.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Guest(Arc::clone(self))
    }

    fn await_room(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(count, |count| count.0 >= MAX_CONNECTIONS));
    }

    fn is_idle_for(&self, time: Duration) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.0 == 0 && count.1.elapsed() >= time
    }
}
