//! Unpacked layers: each has a record, and with `deep` each file is as the blob of its layer says.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hoy_layer::Flavour;
use hoy_layout::Image;
use hoy_oci::Platform;

use super::users::Users;
use super::{Check, Damage, DamageKind, with_causes};
use crate::cache::{ImageLayer, LayerRecord, chain_id, flat_name, layers_of, unpack_all, unpack_blob};
use crate::compare::differences;
use crate::directory::{TemporaryDirectory, remove_whole};
use crate::garbage::{names, remove_layer};
use crate::{Cache, Error, Result, shift};

/// No more files of one layer than this are named.
const MOST_NAMED: usize = 10;

/// How an unpacked layer is made.
enum Recipe {
    Alone(ImageLayer),
    On(ImageLayer, Vec<String>),
    Flat(Vec<ImageLayer>, Option<hoy_oci::IdMaps>),
}

impl Check<'_> {
    /// Records of layers can be read, and every directory has one.
    pub(super) fn layers(&mut self, users: &Users) -> Result<()> {
        let layers = self.store.layers();
        for name in names(&layers)?.iter().filter(|name| !name.starts_with('.')) {
            let id = name.strip_suffix(".json").unwrap_or(name);
            let record = layers.join(format!("{id}.json"));
            let (kind, problem) = match std::fs::read(&record) {
                // The directory was removed, or is about to be made: nobody uses it.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    (DamageKind::Leftover, "an unpacked layer has no record: it is unpacked again when it is needed")
                }
                Err(e) => return Err(Error::io("read", &record)(e)),
                Ok(bytes) if id == name || serde_json::from_slice::<LayerRecord>(&bytes).is_ok() => continue,
                Ok(_) => (DamageKind::Torn, "the record of an unpacked layer: it is unpacked again when it is needed"),
            };
            let mut damage = Damage::new(kind, &record, problem);
            (damage.images, damage.containers) = users.of_layer(id);
            let in_use = self.user_of(id)?;
            let store = self.store;
            self.add(damage, || match in_use {
                Some(remedy) => Ok(Err(remedy)),
                None => remove_layer(store, id).map(|()| Ok("removed with its directory".to_owned())),
            });
        }
        Ok(())
    }

    /// Unpacks each layer again, and compares.
    pub(super) fn unpacked(&mut self, users: &Users) -> Result<()> {
        let cache = Cache::new(self.store, self.xattrs)?;
        for (name, recipe) in self.recipes(&cache, users) {
            let Some(record) = cache.usable(&name).filter(|record| !record.needs_parents) else { continue };
            let path = cache.path(&name);
            // One of an additional store is not ours to check.
            if !path.is_dir() {
                continue;
            }
            let mut damage = Damage::new(DamageKind::Altered, &path, "");
            (damage.images, damage.containers) = users.of_layer(&name);
            if let Recipe::On(_, below) = &recipe
                && let Some(lower) = below.iter().find(|lower| self.is_altered(&cache.path(lower)))
            {
                damage.problem = format!("it lies on layer {lower}, which is altered");
                damage.remedy = Some("repair again when that one is mended".to_owned());
                self.found.push(damage);
                continue;
            }
            let made = make(&cache, &recipe).and_then(|(temporary, tree)| {
                let found = differences(&tree, &path, record.has_root_entry)?;
                Ok((temporary, tree, found))
            });
            match made {
                Ok((_, _, found)) if found.is_empty() => {}
                Ok((temporary, tree, found)) => {
                    damage.path = path.join(found.first().map(|(path, _)| path.as_path()).unwrap_or(Path::new("")));
                    damage.problem = describe(&found);
                    damage.remedy = Some("--repair unpacks the layer again".to_owned());
                    let in_use = self.user_of(&name)?;
                    self.add(damage, || match in_use {
                        Some(remedy) => Ok(Err(remedy)),
                        None => replace(&cache, &name, &tree, temporary),
                    });
                }
                Err(error) => {
                    // The blob is torn or gone, which is told of, or there is no space to unpack it to.
                    damage.problem = format!("it cannot be compared with its layer: {}", with_causes(&error));
                    damage.remedy = Some("it is believed until its blob can be unpacked".to_owned());
                    self.found.push(damage);
                }
            }
        }
        Ok(())
    }

    /// Whether a layer was found to be altered, and still is.
    fn is_altered(&self, layer: &Path) -> bool {
        let of_it = |damage: &&Damage| damage.kind == DamageKind::Altered && damage.path.starts_with(layer);
        self.found.iter().filter(of_it).any(Damage::is_left)
    }

    /// Why an unpacked layer cannot be replaced: a mount that shows it.
    fn user_of(&self, name: &str) -> Result<Option<String>> {
        for mounted in crate::mounted_images(self.store) {
            if mounted.layers().iter().any(|layer| layer == name) {
                return Ok(Some(format!("\"hoy-storage umount --image {}\", and repair again", mounted.name)));
            }
        }
        for dir in self.store.all_containers()? {
            let Ok(container) = dir.container() else { continue };
            let is_mounted = || {
                let here = crate::overlay::is_mount_point(&container.bundle.join("rootfs"));
                here.map(|here| here || crate::mounts::rooted_in(&dir.upper()).is_some())
            };
            if container.layers.iter().any(|layer| layer == name) && is_mounted()? {
                return Ok(Some(format!("\"hoy-storage umount {}\", and repair again", container.name)));
            }
        }
        Ok(None)
    }

    /// The directories that images and containers have in the cache, and how each is made; those first that others lie on.
    fn recipes(&self, cache: &Cache<'_>, users: &Users) -> Vec<(String, Recipe)> {
        let mut recipes = BTreeMap::new();
        let platform = Platform::host();
        let of_names = users.images.iter().filter_map(|(_, entry, _)| self.store.layout().image(entry, &platform).ok());
        for image in of_names {
            add(cache, &image, None, &mut recipes);
        }
        for (container, _) in &users.containers {
            if let Ok(image) = crate::container::image_of(self.store, container) {
                let maps = shift::on_disk(container).ok().flatten();
                add(cache, &image, maps, &mut recipes);
            }
        }
        let mut all: Vec<(String, (usize, Recipe))> = recipes.into_iter().collect();
        all.sort_by_key(|(_, (height, _))| *height);
        all.into_iter().map(|(name, (_, recipe))| (name, recipe)).collect()
    }
}

/// Adds the directories of an image, each with how many layers must be right before it can be made.
fn add(
    cache: &Cache<'_>,
    image: &Image,
    maps: Option<&hoy_oci::IdMaps>,
    recipes: &mut BTreeMap<String, (usize, Recipe)>,
) {
    let Ok(layers) = layers_of(image) else { return };
    for maps in [None, maps] {
        recipes.insert(flat_name(&layers, maps), (0, Recipe::Flat(layers.clone(), maps.cloned())));
    }
    let mut below: Option<Vec<String>> = Some(Vec::new());
    let mut chain = None;
    for layer in layers {
        let (diff_id, id) = (layer.diff_id.hex(), chain_id(chain.as_ref(), &layer.diff_id));
        chain = Some(id);
        recipes.entry(diff_id.clone()).or_insert_with(|| (0, Recipe::Alone(layer.clone())));
        // What lies below it is known as long as the records are there.
        let Some(stack) = &mut below else { continue };
        match cache.usable(&diff_id).map(|record| cache.stands_on(&record, stack).map(|on| (record, on))) {
            Some(Ok((_, true))) => {
                recipes.entry(id.hex()).or_insert_with(|| (stack.len(), Recipe::On(layer, stack.clone())));
                stack.push(id.hex());
            }
            Some(Ok((record, false))) if record.needs_parents => {
                let name = flat_name(std::slice::from_ref(&layer), None);
                recipes.entry(name.clone()).or_insert_with(|| (0, Recipe::Flat(vec![layer], None)));
                stack.push(name);
            }
            Some(Ok((record, false))) => {
                if record.hides_all_below {
                    stack.clear();
                }
                stack.push(diff_id);
            }
            _ => below = None,
        }
    }
}

/// The tree as it should be, in a temporary directory.
fn make(cache: &Cache<'_>, recipe: &Recipe) -> Result<(TemporaryDirectory, PathBuf)> {
    let new = || TemporaryDirectory::create_in(&cache.store().layers());
    match recipe {
        Recipe::Alone(layer) => {
            let directory = new()?;
            unpack_blob(cache.store(), layer, directory.fd(), Flavour::Overlay(cache.xattrs()))?;
            let path = directory.path().to_owned();
            Ok((directory, path))
        }
        Recipe::On(layer, below) => cache.make_on(layer, below).map(|(directory, upper, _)| (directory, upper)),
        Recipe::Flat(layers, maps) => {
            let directory = new()?;
            crate::unpack::set_base(directory.path(), directory.fd().as_fd())?;
            unpack_all(cache.store(), layers, directory.fd())?;
            if let Some(maps) = maps {
                shift::give(directory.path(), maps)?;
            }
            let path = directory.path().to_owned();
            Ok((directory, path))
        }
    }
}

/// Puts the new tree where the old one is, under the lock of the layer.
fn replace(
    cache: &Cache<'_>,
    name: &str,
    tree: &Path,
    temporary: TemporaryDirectory,
) -> Result<std::result::Result<String, String>> {
    let lock = cache.lock(name)?;
    let path = cache.path(name);
    remove_whole(&path)?;
    match tree == temporary.path() {
        true => temporary.rename_to(&path).map(drop)?,
        false => std::fs::rename(tree, &path).map_err(Error::io("rename to", &path))?,
    }
    drop(lock);
    Ok(Ok("unpacked again from its blob".to_owned()))
}

fn describe(found: &[(PathBuf, String)]) -> String {
    let named = found.iter().take(MOST_NAMED).map(|(path, what)| format!("\"{}\" {what}", path.display()));
    let more = found.len().saturating_sub(MOST_NAMED);
    let rest = (more > 0).then(|| format!("{more} more"));
    named.chain(rest).collect::<Vec<_>>().join(", ")
}
