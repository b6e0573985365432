//! An OCI registry out of an image layout: the distribution protocol, spoken to one connection or to those of passed sockets.
//!
//! It never opens a socket, knows nobody's name, and makes no blob visible before its digest is right.

mod fault;
mod listen;
mod manifests;
mod message;
mod route;
mod service;
mod shelf;
mod uploads;
mod wire;

pub use listen::{converse, is_listening, serve};
pub use service::{Service, Trace};
pub use shelf::Shelf;
