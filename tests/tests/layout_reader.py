"""Reads a store of images and containers, written from hoy-layout(5) alone; HOY_ADDITIONAL_STORES lists further ones.
layout_reader.py ROOT images | tree IMAGE | changes CONTAINER | locks
images: name, manifest and id of each, all blobs it leads to verified; locks: those of store and containers that are held"""
import glob, hashlib, json, os, platform, stat, sys
root, question, *which = sys.argv[1:]
stores = [root, *filter(None, os.environ.get("HOY_ADDITIONAL_STORES", "").split(":"))]
BOOT = open("/proc/sys/kernel/random/boot_id").read().strip()
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

def load(path, spare=None):
    try:
        return json.load(open(path, "rb"))
    except (OSError, ValueError):
        return load(spare) if spare else sys.exit(f"{path} is damaged")

def blob(descriptor):
    places = [f"{store}/blobs/sha256/{descriptor['digest'][7:]}" for store in stores]
    path = next(filter(os.path.exists, places), places[0])
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (digest, os.path.getsize(path)) != (os.path.basename(path), descriptor["size"]):
        sys.exit(f"{path} is damaged")
    return path

def image(descriptor):
    document = load(blob(descriptor))
    if "manifests" in document:
        return image(next(m for m in document["manifests"] if m["platform"]["architecture"] == ARCH))
    config = load(blob(document["config"]))
    return document["config"]["digest"], config["rootfs"]["diff_ids"], [blob(layer) for layer in document["layers"]]

def usable(name):
    for layers in (f"{store}/layers" for store in stores):
        if os.path.exists(f"{layers}/{name}.json") and os.stat(layers).st_uid == os.geteuid():
            record = load(f"{layers}/{name}.json")
            if (record["synced"] or record["bootId"] == BOOT) and (record.get("needsParents") or os.path.isdir(f"{layers}/{name}")):
                return f"{layers}/{name}", record
    sys.exit(f"layer {name} is not unpacked")

def stack(diff_ids):
    places, chain = [], ""
    for diff_id in diff_ids:
        chain = "sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest() if chain else diff_id
        place, record = usable(diff_id[7:])
        paths = [path if isinstance(path, str) else os.fsdecode(bytes(path)) for path in record.get("implicit", [])]
        below = any(os.path.lexists(f"{lower}/{path}") for path in paths for lower in places)
        on = places and (record.get("needsParents") or below)
        other = chain[7:] if on else "flat-" + diff_id[7:] if record.get("needsParents") else None
        places = [*([] if record.get("hidesAllBelow") and not other else places), usable(other)[0] if other else place]
    return places

def attribute(path, name):
    return os.getxattr(path, name, follow_symlinks=False) if name in os.listxattr(path, follow_symlinks=False) else None

def is_whiteout(path):
    return stat.S_ISCHR(os.lstat(path).st_mode) and os.lstat(path).st_rdev == 0

def merged(directories, path=""):
    """Path in the image and on disk of everything below `path`; `directories` are those that are merged, highest first."""
    for name in sorted({name for directory in directories for name in os.listdir(directory)}):
        found = []
        for candidate in filter(os.path.lexists, (f"{directory}/{name}" for directory in directories)):
            is_directory = stat.S_ISDIR(os.lstat(candidate).st_mode)
            if is_whiteout(candidate) or found and not is_directory:
                break
            found.append(candidate)
            if not is_directory or b"y" in (attribute(candidate, kind + ".overlay.opaque") for kind in ("trusted", "user")):
                break
        if found:
            yield f"{path}/{name}", found[0]
            if stat.S_ISDIR(os.lstat(found[0]).st_mode):
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

entries = [e for store in stores for e in load(f"{store}/index.json", f"{store}/index.json.old")["manifests"]]
named = [(e.get("annotations", {}).get("org.opencontainers.image.ref.name", "<none>"), e) for e in entries]
if question == "images":
    print(*(f"{name} {e['digest']} {image(e)[0]}" for name, e in named), sep="\n")
elif question == "tree":
    print(*(describe(*pair) or "" for pair in merged(stack(image(dict(named[::-1])[which[0]])[1])[::-1])), sep="", end="")
elif question == "locks":
    places = sorted(path for at in ("", "containers/", "containers/*/") for path in glob.glob(f"{root}/{at}.*lock"))
    print(*(path[len(root) + 1:] for path in places if os.system(f"flock -n '{path}' true")), sep="\n")
elif question == "changes":
    records = (load(f"{path}/storage.json", f"{path}/.storage.json") for path in glob.glob(f"{root}/containers/" + "?" * 64))
    record = next(r for r in records if which[0] in (r["id"], r["name"]))
    lower, upper = dict(merged([usable(name)[0] for name in reversed(record["layers"])])), f"{root}/containers/{record['id']}/upper"
    for path in sorted(f"{at}/{name}"[len(upper):] for at, dirs, files in os.walk(upper) for name in dirs + files):
        print("D" if is_whiteout(upper + path) else "C" if path in lower else "A", path)
