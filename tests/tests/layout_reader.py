"""Reads a store of images and containers, written from hoy-layout(5) alone:
layout_reader.py ROOT images            name, manifest and id of each image, all blobs it leads to verified
layout_reader.py ROOT tree IMAGE        every file of an image's layers, merged
layout_reader.py ROOT changes CONTAINER what a container added, changed and deleted
"""
import hashlib, json, os, platform, stat, sys

root = sys.argv[1]
BOOT = open("/proc/sys/kernel/random/boot_id").read().strip()
NAME = "org.opencontainers.image.ref.name"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

def load(*path):
    with open(os.path.join(root, *path), "rb") as file:
        return json.load(file)

def blob(descriptor):
    path = f"{root}/blobs/sha256/{descriptor['digest'][7:]}"
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (digest, os.path.getsize(path)) != (os.path.basename(path), descriptor["size"]):
        sys.exit(f"{path} is damaged")
    return path

def image(descriptor):
    document = json.load(open(blob(descriptor)))
    if "manifests" in document:
        return image(next(m for m in document["manifests"] if m["platform"]["architecture"] == ARCH))
    config = json.load(open(blob(document["config"])))
    return document["config"]["digest"], config["rootfs"]["diff_ids"], [blob(layer) for layer in document["layers"]]

def usable(name):
    record = load("layers", name + ".json")
    assert record["synced"] or record["bootId"] == BOOT, name
    assert record.get("needsParents") or os.path.isdir(f"{root}/layers/{name}"), name
    return record

def stack(diff_ids):
    names, chain = [], ""
    for diff_id in diff_ids:
        chain = "sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest() if chain else diff_id
        record = usable(diff_id[7:])
        paths = [path if isinstance(path, str) else os.fsdecode(bytes(path)) for path in record.get("implicit", [])]
        below = (f"{root}/layers/{name}/{path}" for path in paths for name in names)
        if names and (record.get("needsParents") or any(map(os.path.lexists, below))):
            names += usable(chain[7:]) and [chain[7:]]
        elif record.get("needsParents"):
            names += usable("flat-" + diff_id[7:]) and ["flat-" + diff_id[7:]]
        else:
            names = [*([] if record.get("hidesAllBelow") else names), diff_id[7:]]
    return names

def attribute(path, name):
    here = os.listxattr(path, follow_symlinks=False)
    return os.getxattr(path, name, follow_symlinks=False) if name in here else None

def is_whiteout(path):
    return stat.S_ISCHR(os.lstat(path).st_mode) and os.lstat(path).st_rdev == 0

def merged(directories, path=""):
    """Path in the image and on disk of everything below `path`; `directories` are those that are merged, highest first."""
    for name in sorted({name for directory in directories for name in os.listdir(directory)}):
        found = []
        for candidate in (os.path.join(directory, name) for directory in directories):
            if not os.path.lexists(candidate):
                continue
            is_directory = stat.S_ISDIR(os.lstat(candidate).st_mode)
            if is_whiteout(candidate) or found and not is_directory:
                break
            found.append(candidate)
            if not is_directory or b"y" in (attribute(candidate, kind + ".overlay.opaque") for kind in ("trusted", "user")):
                break
        if found:
            yield f"{path}/{name}", found[0]
            if os.path.isdir(found[0]) and not os.path.islink(found[0]):
                yield from merged(found, f"{path}/{name}")

def describe(path, file):
    info = os.lstat(file)
    kind, owner, mode = stat.filemode(info.st_mode)[0].replace("-", "f"), f"{info.st_uid}:{info.st_gid}", info.st_mode & 0o7777
    if recorded := attribute(file, "user.containers.override_stat"):
        uid, gid, mode, *instead = recorded.decode().split(":")
        kind, owner, mode = instead[0][0] if instead else kind, f"{uid}:{gid}", int(mode, 8)
    seconds, rest = divmod(info.st_mtime_ns, 10**9)
    print(f"{path} {kind} {mode:o} {owner} {seconds}.{rest:09}0 {os.readlink(file) if kind == 'l' else ''}")
    if kind == "f":
        print(hashlib.sha256(open(file, "rb").read()).hexdigest(), f".{path}")

index, (question, *which) = load("index.json"), sys.argv[2:]
if question == "images":
    for e in index["manifests"]:
        print(e.get("annotations", {}).get(NAME, "<none>"), e["digest"], image(e)[0])
elif question == "tree":
    found = next(e for e in index["manifests"] if e.get("annotations", {}).get(NAME) == which[0])
    for path, file in merged([f"{root}/layers/{name}" for name in reversed(stack(image(found)[1]))]):
        describe(path, file)
elif question == "changes":
    ids = [id for id in os.listdir(f"{root}/containers") if len(id) == 64]
    record = next(r for r in (load("containers", id, "storage.json") for id in ids) if which[0] in (r["id"], r["name"]))
    lower = dict(merged([f"{root}/layers/{name}" for name in reversed(record["layers"])]))
    upper = f"{root}/containers/{record['id']}/upper"
    for path in sorted(f"{at}/{name}"[len(upper):] for at, dirs, files in os.walk(upper) for name in dirs + files):
        print("D" if is_whiteout(upper + path) else "C" if path in lower else "A", path)
