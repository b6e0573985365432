//! Containers: their records can be read, and what they need is there.

use hoy_layout::ContainerDir;

use super::{Check, Damage, DamageKind, kind, with_causes};
use crate::garbage::names;
use crate::{Cache, Error, Result, container};

/// The record of hoy-storage, which has a copy.
const RECORD: &str = "storage.json";

impl Check<'_> {
    pub(super) fn containers(&mut self) -> Result<()> {
        let cache = Cache::new(self.store, self.xattrs)?;
        for dir in self.store.all_containers()? {
            self.record(&dir);
            self.others(&dir)?;
            let id = dir.id().short().to_owned();
            let Ok(container) = dir.container() else { continue };
            let mut add = |kind, path: &std::path::Path, problem: String, remedy: &str| {
                let mut damage = Damage::new(kind, path, problem);
                damage.containers = vec![container.name.clone()];
                damage.remedy = Some(remedy.to_owned());
                self.found.push(damage);
            };
            if !dir.upper().is_dir() && dir.path().exists() {
                let problem = format!("what was written in container {id} is lost");
                add(DamageKind::Missing, &dir.upper(), problem, "remove the container");
            }
            let lost = container.layers.iter().find(|name| cache.usable(name).is_none());
            if let Some(lost) = lost
                && let Err(error) = container::image_of(self.store, &container)
            {
                let problem = format!("it is gone, and with it the image: {}", with_causes(&error));
                add(DamageKind::Missing, &cache.path(lost), problem, "pull the image again");
            }
        }
        Ok(())
    }

    fn record(&mut self, dir: &ContainerDir) {
        let Err(error) = dir.record() else { return };
        // Whoever removes it meanwhile takes all of it away.
        if !dir.path().exists() {
            return;
        }
        let path = dir.path().join(RECORD);
        let copy = dir.container();
        let mut damage = Damage::new(kind(&error), &path, with_causes(&error));
        damage.containers = vec![copy.as_ref().map_or_else(|_| dir.id().to_string(), |copy| copy.name.clone())];
        damage.remedy = Some(match copy {
            Ok(_) => "the copy of it is used; --repair brings it back".to_owned(),
            Err(_) => format!("\"hoy-storage rm {}\" removes the container", dir.id().short()),
        });
        let remedy = damage.remedy.clone().unwrap_or_default();
        self.add(damage, || match copy {
            Ok(copy) => {
                let lock = dir.lock()?;
                dir.set_container(&copy)?;
                drop(lock);
                Ok(Ok("brought back from its copy".to_owned()))
            }
            Err(_) => Ok(Err(remedy)),
        });
    }

    /// Records of other programs, and the copy of our own.
    fn others(&mut self, dir: &ContainerDir) -> Result<()> {
        let all = match names(dir.path()) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let is_record = |name: &&String| name.ends_with(".json") && *name != RECORD && !name.starts_with(".tmp-");
        for name in all.iter().filter(is_record) {
            let Err(error) = dir.read_json::<serde_json::Value>(name) else { continue };
            if error.is_not_found() {
                continue;
            }
            let mut damage = Damage::new(DamageKind::Torn, &dir.path().join(name), with_causes(&error));
            damage.containers = vec![dir.container().map_or_else(|_| dir.id().to_string(), |found| found.name)];
            let own = if name == ".storage.json" { dir.record().ok() } else { None };
            damage.remedy = Some(match own {
                Some(_) => "--repair writes it again".to_owned(),
                None => "the program whose record it is cannot use the container; its files are there".to_owned(),
            });
            let remedy = damage.remedy.clone().unwrap_or_default();
            self.add(damage, || match own {
                Some(record) => Ok(dir.keep_copy(&record).map(|()| Ok("written again".to_owned()))?),
                None => Ok(Err(remedy)),
            });
        }
        Ok(())
    }
}
