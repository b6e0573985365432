//! As much of D-Bus as talking to systemd takes (D-Bus Specification 0.43).

mod connection;
mod message;
mod value;

pub(crate) use connection::Connection;
pub(crate) use message::{Kind, Message};
pub(crate) use value::{Reader, Value, Writer};
