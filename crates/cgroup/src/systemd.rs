//! Units of systemd that hold containers: made, changed and stopped over D-Bus (org.freedesktop.systemd1(5)).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::dbus::{Connection, Kind, Message, Reader, Writer};
use crate::{Error, Result, Unit, device, property, unit};

/// The systemd that a container's unit belongs to: the machine's, or that of one user.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
}

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

impl Systemd {
    /// Connects to the machine's systemd, or with `is_user` to the one of `$XDG_RUNTIME_DIR`.
    ///
    /// # Errors
    /// [`Error::Systemd`] where there is none.
    pub fn connect(is_user: bool) -> Result<Self> {
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let sockets = if is_user {
            let dir = runtime_dir.map(PathBuf::from).ok_or_else(|| Error::Systemd {
                doing: "find the user's systemd".to_owned(),
                reason: "XDG_RUNTIME_DIR is not set: log in, or use --cgroup-manager cgroupfs".to_owned(),
            })?;
            [dir.join("systemd/private"), dir.join("bus")]
        } else {
            ["/run/systemd/private", "/run/dbus/system_bus_socket"].map(PathBuf::from)
        };
        let [private, bus] = &sockets;
        Self::open(private, bus)
    }

    /// Connects to systemd's own socket, or to the bus that it is on.
    fn open(private: &Path, bus: &Path) -> Result<Self> {
        if let Ok(connection) = Connection::open(private) {
            // Its signals come without a subscription.
            return Ok(Self { connection });
        }
        let connection = Connection::open(bus).map_err(|error| match error {
            Error::Systemd { doing, reason } => {
                let remedy = "is systemd running? use --cgroup-manager cgroupfs where it is not";
                Error::Systemd { doing, reason: format!("{reason}: {remedy}") }
            }
            other => other,
        })?;
        let mut systemd = Self { connection };
        let of_bus = |member: &str| {
            let mut call = Message::new(Kind::Call, 0);
            "org.freedesktop.DBus".clone_into(&mut call.destination);
            "org.freedesktop.DBus".clone_into(&mut call.interface);
            "/org/freedesktop/DBus".clone_into(&mut call.path);
            member.clone_into(&mut call.member);
            call
        };
        systemd.ask(of_bus("Hello"))?;
        let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
        systemd.ask(with(of_bus("AddMatch"), "s", |w| w.text(&rule)))?;
        systemd.ask(manager("Subscribe"))?;
        Ok(systemd)
    }

    /// Makes the unit of the container `id`, with the process `pid` in it, and waits until it is there. Gives the path of
    /// its control group.
    ///
    /// # Errors
    /// [`Error::Systemd`] with the reason that systemd gives; an annotation that is no property.
    pub fn start(&mut self, unit: &Unit, id: &str, pid: i32, settings: &Settings<'_>) -> Result<PathBuf> {
        let mut properties = unit::scope(unit, pid, id);
        if settings.device_rules {
            let rules = settings.resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
            let names = fs::read_to_string("/proc/devices").unwrap_or_default();
            properties.extend(unit::devices(&device::plan(rules), &names));
        }
        properties.extend(settings.resources.map_or(Ok(Vec::new()), |r| unit::limits(r, settings.v2))?);
        let mut annotations: Vec<_> = settings
            .annotations
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix(property::PREFIX)?, text)))
            .collect();
        annotations.sort();
        for (name, text) in annotations {
            properties.push(property::parse(name, text)?);
        }
        let call = || {
            with(manager("StartTransientUnit"), "ssa(sv)a(sa(sv))", |w| {
                w.text(&unit.name);
                w.text("replace");
                w.properties(&properties);
                w.array(8, &[(); 0], |_, ()| {});
            })
        };
        match self.ask(call()) {
            // One that failed keeps its name until it is reset.
            Err(Error::Bus { name, .. }) if name == "org.freedesktop.systemd1.UnitExists" => {
                self.ask(of_unit("ResetFailedUnit", &unit.name)).map(drop).or_else(missing_is_fine)?;
                self.ask(call())?;
            }
            other => {
                other?;
            }
        }
        self.wait(&unit.name, "start")?;
        self.control_group(unit)
    }

    fn control_group(&mut self, unit: &Unit) -> Result<PathBuf> {
        let reply = self.ask(of_unit("GetUnit", &unit.name))?;
        let path = reply.first_text().unwrap_or_default().to_owned();
        let interface = format!("org.freedesktop.systemd1.{}", if unit.is_slice() { "Slice" } else { "Scope" });
        let mut call = manager("Get");
        "org.freedesktop.DBus.Properties".clone_into(&mut call.interface);
        call.path = path;
        let reply = self.ask(with(call, "ss", |w| {
            w.text(&interface);
            w.text("ControlGroup");
        }))?;
        let mut reader = Reader::new(&reply.body);
        let group = if reader.signature()? == "s" { reader.text()? } else { "" };
        if !group.starts_with('/') || group.split('/').any(|part| part == "..") {
            let reason = format!("it says that its control group is \"{group}\"");
            return Err(Error::Systemd { doing: format!("find unit \"{}\"", unit.name), reason });
        }
        Ok(PathBuf::from(group))
    }

    /// Puts the process `pid` into the unit, where this user may not do that himself.
    ///
    /// # Errors
    /// [`Error::Bus`] with the reason that systemd gives.
    pub fn attach(&mut self, name: &str, pid: i32) -> Result<()> {
        let call = with(manager("AttachProcessesToUnit"), "ssau", |w| {
            w.text(name);
            w.text("");
            w.array(4, &[pid.unsigned_abs()], |w, pid| w.u32(*pid));
        });
        self.ask(call).map(drop)
    }

    /// Changes the limits of a unit, until it ends.
    ///
    /// # Errors
    /// [`Error::Systemd`] with the reason that systemd gives.
    pub fn update(&mut self, name: &str, resources: &LinuxResources, v2: bool) -> Result<()> {
        let properties = unit::limits(resources, v2)?;
        if properties.is_empty() {
            return Ok(());
        }
        let call = with(manager("SetUnitProperties"), "sba(sv)", |w| {
            w.text(name);
            w.u32(1);
            w.properties(&properties);
        });
        self.ask(call).map(drop)
    }

    /// Stops a unit and forgets it; one that is not there is no failure.
    ///
    /// # Errors
    /// [`Error::Systemd`] with the reason that systemd gives.
    pub fn stop(&mut self, name: &str) -> Result<()> {
        let call = with(manager("StopUnit"), "ss", |w| {
            w.text(name);
            w.text("replace");
        });
        match self.ask(call) {
            Ok(_) => self.wait(name, "stop")?,
            Err(error) => return missing_is_fine(error),
        }
        // It is only still there when it failed.
        self.ask(of_unit("ResetFailedUnit", name)).map(drop).or_else(missing_is_fine)
    }

    /// Waits for the end of the job on the unit `name`.
    fn wait(&mut self, name: &str, doing: &str) -> Result<()> {
        let result = self.connection.signal(|signal| {
            let mut reader = Reader::new(&signal.body);
            if signal.member != "JobRemoved" || signal.signature != "uoss" || reader.u32().is_err() {
                return None;
            }
            let (_job, unit, result) = (reader.text().ok()?, reader.text().ok()?, reader.text().ok()?);
            (unit == name).then(|| result.to_owned())
        })?;
        if result == "done" {
            return Ok(());
        }
        let reason = format!("the job ended with \"{result}\"");
        Err(Error::Systemd { doing: format!("{doing} unit \"{name}\""), reason })
    }

    fn ask(&mut self, call: Message) -> Result<Message> {
        let doing = call.member.clone();
        let reply = self.connection.call(call)?;
        if reply.kind == Kind::Error {
            let reason = reply.first_text().unwrap_or(&reply.error).to_owned();
            return Err(Error::Bus { doing, name: reply.error, reason });
        }
        Ok(reply)
    }
}

/// What a unit is made with.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The limits.
    pub resources: Option<&'a LinuxResources>,
    /// Those named `org.systemd.property.…` count.
    pub annotations: &'a HashMap<String, String>,
    /// Whether devices are limited.
    pub device_rules: bool,
    /// Whether the control groups are of version 2 alone.
    pub v2: bool,
}

fn manager(member: &str) -> Message {
    let mut call = Message::new(Kind::Call, 0);
    "org.freedesktop.systemd1".clone_into(&mut call.destination);
    MANAGER.clone_into(&mut call.interface);
    "/org/freedesktop/systemd1".clone_into(&mut call.path);
    member.clone_into(&mut call.member);
    call
}

fn of_unit(member: &str, name: &str) -> Message {
    with(manager(member), "s", |w| w.text(name))
}

fn with(mut call: Message, signature: &str, write: impl FnOnce(&mut Writer)) -> Message {
    let mut body = Writer::default();
    write(&mut body);
    signature.clone_into(&mut call.signature);
    call.body = body.0;
    call
}

fn missing_is_fine(error: Error) -> Result<()> {
    match error {
        Error::Bus { name, .. } if name == "org.freedesktop.systemd1.NoSuchUnit" => Ok(()),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread::{JoinHandle, spawn};

    use super::*;
    use crate::dbus::Value;

    /// What a call is answered with: signals, and the reply.
    type Answer = fn(&Message) -> (Vec<Message>, Message);

    /// A bus with a systemd on it, for one connection: answers as `answer` says, after the signals that it gives.
    fn bus(at: &Path, answer: Answer) -> JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(at).unwrap();
        spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut line = |want: &str| {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert_eq!(line, want);
            };
            ["\0AUTH EXTERNAL\r\n", "DATA\r\n", "BEGIN\r\n"].iter().for_each(|want| line(want));
            stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n").unwrap();
            let mut input = lines.buffer().to_vec();
            let mut calls = Vec::new();
            loop {
                while let Some((call, size)) = Message::decode(&input).unwrap() {
                    input.drain(..size);
                    calls.push(call.member.clone());
                    let (signals, mut reply) = answer(&call);
                    reply.reply_to = call.serial;
                    for message in signals.iter().chain([&reply]) {
                        let bytes = message.encode();
                        // In two parts, as a stream may come.
                        let (a, b) = bytes.split_at(bytes.len() / 2);
                        stream.write_all(a).unwrap();
                        stream.write_all(b).unwrap();
                    }
                }
                if !receive(&mut stream, &mut input) {
                    return calls;
                }
            }
        })
    }

    fn receive(stream: &mut UnixStream, input: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap_or(0);
        input.extend(&buffer[..count]);
        count > 0
    }

    fn reply(signature: &str, write: impl FnOnce(&mut Writer)) -> Message {
        with(Message::new(Kind::Return, 1), signature, write)
    }

    fn removed(unit: &str, result: &str) -> Message {
        let mut signal = with(Message::new(Kind::Signal, 1), "uoss", |w| {
            w.u32(1);
            w.text("/job/1");
            w.text(unit);
            w.text(result);
        });
        "JobRemoved".clone_into(&mut signal.member);
        signal
    }

    fn error(name: &str) -> Message {
        let mut message = with(Message::new(Kind::Error, 1), "s", |w| w.text("it says why"));
        format!("org.freedesktop.systemd1.{name}").clone_into(&mut message.error);
        message
    }

    fn well(call: &Message) -> (Vec<Message>, Message) {
        match call.member.as_str() {
            "StartTransientUnit" | "StopUnit" => {
                // Of another unit, and before the reply: both happen.
                let jobs = vec![removed("other.scope", "failed"), removed("hoy-a.scope", "done")];
                (jobs, reply("o", |w| w.text("/job/1")))
            }
            "GetUnit" => (Vec::new(), reply("o", |w| w.text("/unit"))),
            "Get" => {
                let group = Value::Text("/system.slice/hoy-a.scope".to_owned());
                (Vec::new(), reply("v", |w| w.variant(&group)))
            }
            "ResetFailedUnit" => (Vec::new(), error("NoSuchUnit")),
            _ => (Vec::new(), reply("", |_| {})),
        }
    }

    fn start(systemd: &mut Systemd) -> Result<PathBuf> {
        let unit = Unit::parse(None, "a", false).unwrap();
        let annotations = HashMap::from([("org.systemd.property.Nice".to_owned(), "5".to_owned())]);
        let settings = Settings { resources: None, annotations: &annotations, device_rules: true, v2: true };
        systemd.start(&unit, "a", 1, &settings)
    }

    #[test]
    fn the_life_of_a_unit_on_the_bus() {
        let dir = tempfile::tempdir().unwrap();
        let (private, socket) = (dir.path().join("private"), dir.path().join("bus"));
        let calls = bus(&socket, well);
        let mut systemd = Systemd::open(&private, &socket).unwrap();
        assert_eq!(start(&mut systemd).unwrap(), Path::new("/system.slice/hoy-a.scope"));
        let resources = serde_json::from_str(r#"{"pids":{"limit":5}}"#).unwrap();
        systemd.update("hoy-a.scope", &resources, true).unwrap();
        systemd.stop("hoy-a.scope").unwrap();
        drop(systemd);
        let want = "Hello AddMatch Subscribe StartTransientUnit GetUnit Get SetUnitProperties StopUnit ResetFailedUnit";
        assert_eq!(calls.join().unwrap().join(" "), want);
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let failing: &[(Answer, &str)] = &[
            (
                |call| match call.member.as_str() {
                    "StartTransientUnit" => (vec![removed("hoy-a.scope", "timeout")], reply("o", |w| w.text("/job/1"))),
                    _ => well(call),
                },
                "ask systemd: start unit \"hoy-a.scope\": the job ended with \"timeout\"",
            ),
            (|_| (Vec::new(), error("AccessDenied")), "ask systemd: StartTransientUnit: it says why"),
            (
                |call| match call.member.as_str() {
                    "Get" => (Vec::new(), reply("v", |w| w.variant(&Value::Text("/../..".to_owned())))),
                    _ => well(call),
                },
                "ask systemd: find unit \"hoy-a.scope\": it says that its control group is \"/../..\"",
            ),
            (
                |call| match call.member.as_str() {
                    "GetUnit" => (Vec::new(), reply("s", |w| w.u32(u32::MAX))),
                    "Get" => (Vec::new(), reply("v", |w| w.signature("s"))),
                    _ => well(call),
                },
                "ask systemd: understand its reply: a value is cut off",
            ),
        ];
        for (answer, want) in failing {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("private");
            let calls = bus(&socket, *answer);
            let mut systemd = Systemd::open(&socket, &dir.path().join("bus")).unwrap();
            assert_eq!(start(&mut systemd).unwrap_err().to_string(), *want);
            drop(systemd);
            assert_eq!(calls.join().unwrap()[0], "StartTransientUnit");
        }
    }

    #[test]
    fn no_systemd() {
        let dir = tempfile::tempdir().unwrap();
        let error = Systemd::open(&dir.path().join("private"), &dir.path().join("bus")).unwrap_err().to_string();
        assert!(error.starts_with("ask systemd: connect to \"") && error.contains("is systemd running?"), "{error}");
    }
}
