"""Writes hostile layers to the current directory, as NAME.verdict: `refused`, or `contained` where the layer is unpacked
and reaches nothing; prints each name with its diff ID. `outside` is the absolute path of a directory that nothing may
reach."""
import bz2, gzip, hashlib, io, lzma, sys, tarfile

R, D, S, H, C, F = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
outside = sys.argv[1]
up = '../' * 12 + outside[1:]


def tar(entries, pax=None):
    out = io.BytesIO()
    archive = tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT, pax_headers=pax or {})
    for path, kind, text, *more in entries:
        info = tarfile.TarInfo(path)
        info.type, info.mode = kind, 0o4777 if kind == D else 0o666
        if kind in (S, H):
            info.linkname = text
        elif kind == R:
            info.size = len(text)
        for name, value in (more[0] if more else {}).items():
            if name == 'pax':
                info.pax_headers = value
            else:
                setattr(info, name, value)
        archive.addfile(info, io.BytesIO(text.encode()))
    archive.close()
    return out.getvalue()


def write(name, verdict, data):
    open(f'{name}.{verdict}', 'wb').write(data)
    for unpack in (gzip.decompress, bz2.decompress, lambda data: lzma.decompress(data, lzma.FORMAT_XZ)):
        try:
            data = unpack(data)
            break
        except Exception:
            # Not compressed so, or meant to be damaged.
            pass
    print(f'{name}.{verdict}', 'sha256:' + hashlib.sha256(data).hexdigest())


# CVE-2014-6407, -9356, CVE-2015-3627: links that lead out, and what is written through them.
write('parent', 'refused', tar([('../file', R, 'x')]))
write('parent-inside', 'refused', tar([('a/../../file', R, 'x')]))
write('absolute', 'contained', tar([(outside + '/file', R, 'x')]))
# Inside the root, links lead to where there is nothing: directories are made there, but not by way of the parent.
for kind, target, verdict in [('relative', up, 'refused'), ('absolute', outside, 'contained')]:
    write(f'write-through-{kind}', verdict, tar([('l', S, target), ('l/file', R, 'x'), ('l/new', R, 'x')]))
    write(f'mkdir-through-{kind}', verdict, tar([('l', S, target), ('l/directory', D, ''), ('l/new', D, '')]))
    write(f'replace-{kind}', 'contained', tar([('l', S, target + '/file'), ('l', R, 'x')]))
    # CVE-2021-32760, CVE-2026-33056: a link, then a directory of its name.
    write(f'chmod-through-{kind}', 'contained', tar([('l', S, target), ('l', D, '')]))
    write(f'hard-link-to-{kind}', 'refused', tar([('h', H, target + '/file'), ('h', R, 'x')]))
    write(f'hard-link-through-{kind}', 'refused', tar([('l', S, target), ('h', H, 'l/file')]))
    write(f'hard-link-of-link-{kind}', 'contained', tar([('l', S, target + '/file'), ('h', H, 'l'), ('h', R, 'x')]))
    # CVE-2026-17106: deletion through links.
    write(f'whiteout-through-{kind}', verdict, tar([('l', S, target), ('l/.wh.file', R, '')]))
    write(f'opaque-through-{kind}', verdict, tar([('l', S, target), ('l/.wh..wh..opq', R, '')]))
    write(f'chain-{kind}', verdict, tar([('a', S, 'b'), ('b', S, 'c'), ('c', S, target), ('a/file', R, 'x')]))
write('link-loop', 'refused', tar([('a', S, 'b'), ('b', S, 'a'), ('a/file', R, 'x')]))
write('self-link', 'refused', tar([('a', S, 'a'), ('a/file', R, 'x')]))
# CVE-2021-29136: the root itself as a link.
for number, name in enumerate(['.', '/.', './', '/']):
    write(f'root-link-{number}', 'refused', tar([(name, S, outside), ('file', R, 'x')]))
    write(f'root-hard-link-{number}', 'refused', tar([('x', R, ''), (name, H, 'x')]))
write('whiteout-of-parent', 'refused', tar([('.wh...', R, '')]))
write('whiteout-of-itself', 'refused', tar([('.wh..', R, '')]))
write('whiteout-with-slash', 'contained', tar([('.wh.x', R, ''), ('x', S, outside), ('x/file', R, '')]))
write('inside-a-whiteout', 'refused', tar([('.wh.x/file', R, '')]))
# Overlayfs's own marks, and ours.
write('whiteout-device', 'refused', tar([('c', C, '', {'devmajor': 0, 'devminor': 0})]))
marks = {f'SCHILY.xattr.{space}.overlay.{key}': value for space in ['user', 'trusted']
         for key, value in [('redirect', '/..'), ('opaque', 'y'), ('metacopy', ''), ('origin', 'x')]}
write('overlay-marks', 'contained', tar([('d', D, '', {'pax': marks}), ('f', R, 'x', {'pax': marks})]))
write('override-mark', 'contained', tar([('f', R, 'x', {'pax': {'SCHILY.xattr.user.containers.override_stat': '0:0:04755:char-1-1'}})]))
write('proc', 'contained', tar([('p', S, '/proc/self/root' + outside), ('p/file', R, 'x'), ('d', S, '/dev'), ('d/null', R, 'x')]))
write('fifo-then-file', 'contained', tar([('p', F, ''), ('p', R, 'x')]))
write('write-into-device', 'contained', tar([('c', C, '', {'devmajor': 1, 'devminor': 1}), ('c', R, 'x')]))
write('long-name', 'refused', tar([('n' * 300, R, 'x')]))
write('deep-name', 'contained', tar([('/'.join(['d'] * 1900) + '/file', R, 'x')]))
write('no-name', 'refused', tar([('', R, 'x')]))
# CVE-2025-62518: sizes that differ; the table of doubtful archives is in crates/layer.
write('size-smuggled', 'refused', tar([('a', R, tar([('smuggled', R, '')]).decode('latin1'), {'pax': {'size': '0'}})]))
# CVE-2017-14992, CVE-2025-58183: headers and maps that lie about their length.
head = tarfile.TarInfo('PaxHeaders/x')
head.type, head.size = tarfile.XHDTYPE, 8 << 30
write('long-header', 'refused', head.tobuf() + b'\0' * 1024)
head = tarfile.TarInfo('a')
head.size = 1 << 62
write('long-file', 'refused', head.tobuf(tarfile.GNU_FORMAT) + b'x' * 4096)
pairs = ','.join(['0,0'] * 80000)
write('sparse-map', 'contained', tar([('a', R, '', {'pax': {'GNU.sparse.size': '0', 'GNU.sparse.numblocks': '80000', 'GNU.sparse.map': pairs}})]))
write('sparse-map-too-long', 'refused', tar([('a', R, '', {'pax': {'GNU.sparse.size': '0', 'GNU.sparse.map': pairs + ',0,0' * 60000}})]))
write('sparse-giant', 'refused', tar([('a', R, '', {'pax': {'GNU.sparse.size': str(1 << 62), 'GNU.sparse.numblocks': '0', 'GNU.sparse.map': ''}})]))
# CVE-2021-20291, CVE-2021-29482, CVE-2025-58058: compressed streams that are cut, damaged, or want memory.
good = tar([('a', R, 'x' * 5000)])
for name, pack in [('gzip', gzip.compress), ('bzip2', bz2.compress), ('xz', lzma.compress)]:
    packed = pack(good)
    write(f'cut-{name}', 'refused', packed[:len(packed) // 2])
    write(f'damaged-{name}', 'refused', packed[:-20] + b'\xff' * 20)
    write(f'trailing-{name}', 'refused', packed + b'trailing')
# Bombs: a gigabyte of zeros in a file, in padding after the archive, and in a hundred thousand entries of nothing.
size = 64 << 20
head = tarfile.TarInfo('a')
head.size = 1 << 40
write('bomb-cut', 'refused', gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(size), 9))
write('bomb-padding', 'contained', gzip.compress(good + bytes(size), 9))
write('zstd-window', 'refused', b'\x28\xb5\x2f\xfd\x00' + bytes([(31 - 10) << 3]) + b'\x01\x00\x00')
