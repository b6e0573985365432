"""Writes odd but valid layers, as tars, to the current directory: a tree of everything by every tool, and archives that
no tool writes. A name that ends in .dirless has directories that no entry names; one in .alone is not for peers."""
import io, os, subprocess, tarfile

R, D, S, H, F = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


def sh(script):
    subprocess.run(['sh', '-euc', script], check=True)


# What ustar can say, and what only newer formats can.
sh('''
mkdir -p plain/d/sub plain/empty
printf 'some text' >plain/d/file && ln plain/d/file plain/hard && ln -s d/file plain/link && ln -s /absent plain/dangling
ln plain/link plain/d/hard-to-link
mkfifo plain/fifo && mknod plain/null c 1 3 && mknod plain/disk b 259 70000 && ln plain/null plain/d/hard-to-device
printf x >plain/set && chown 1234:5678 plain/set plain/empty && chmod 6751 plain/set && chown -h 33:34 plain/link plain/fifo plain/null
chmod 1777 plain/empty && chmod 2770 plain/d/sub && : >plain/none && chmod 000 plain/none
find plain -exec touch -h -d @1000000000 {} +
cp -a plain full
printf x >"full/$(printf 'caf\\351')" && printf y >"full/na\\"me with 'quotes" && printf z >full/-dash
printf l >full/$(printf '%0200d' 7)
mkdir -p full/$(printf 'long/%.0s' $(seq 60)) && printf x >full/$(printf 'long/%.0s' $(seq 60))/end
ln -s $(printf 'target/%.0s' $(seq 30)) full/long-link
printf o >full/owned && chown 3000000:4000000 full/owned
printf data >full/sparse && truncate -s 3M full/sparse && printf end >>full/sparse
cp /bin/true full/capable && chmod 755 full/capable && setcap cap_net_raw=ep full/capable
setfattr -n user.note -v "$(printf 'one\\ntwo')" full/owned && setfattr -n user.dir -v d full/d
find full -exec touch -h -d @1000000000 {} + && touch -d @981173106.123456789 full/owned && touch -h -d @1.5 full/link && touch -d @7 full/d
''')
for kind in ['ustar', 'oldgnu']:
    sh(f'tar --format={kind} --numeric-owner -C plain -cf gnu-{kind} .')
sh('tar --format=v7 --numeric-owner --exclude=fifo --exclude=disk --exclude=null --exclude=hard-to-device -C plain -cf gnu-v7 .')
for kind in ['gnu', 'posix']:
    sh(f"tar --format={kind} --numeric-owner --xattrs --xattrs-include='*' -C full -cf gnu-{kind} .")
# Go's reader, and with it umoci and podman, do not know GNU's own sparse format.
sh("tar --format=gnu --numeric-owner --sparse -C full -cf gnu-sparse.alone .")
sh("tar --format=posix --numeric-owner --sparse -C full -cf gnu-sparse-1.0 .")
for version in ['0.0', '0.1']:
    sh(f"tar --format=posix --numeric-owner --sparse --sparse-version={version} -C full -cf gnu-sparse-{version} .")
sh('cd plain && bsdtar --numeric-owner --format ustar -cf ../bsd-ustar .')
for kind in ['pax', 'gnutar']:
    sh(f'cd full && bsdtar --numeric-owner --format {kind} -cf ../bsd-{kind} .')
for name, kind in [('pax', tarfile.PAX_FORMAT), ('gnu', tarfile.GNU_FORMAT)]:
    with tarfile.open(f'python-{name}', 'w', format=kind) as tar:
        tar.add('full', arcname='.')


def write(name, entries, end=True, **options):
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT, **options)
    for number, (path, kind, text) in enumerate(entries):
        info = tarfile.TarInfo(path)
        info.type, info.mode = kind, 0o755 if kind == D else 0o640
        # A hard link is the file it leads to; readers differ about a time of its own.
        info.mtime = 1000 if kind in (R, H) else 1001 + number
        if kind in (S, H):
            info.linkname = text
        else:
            info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    if end:
        tar.close()
    open(name, 'wb').write(out.getvalue())


write('directory-last', [('a/b/f', R, 'x'), ('a/b', D, ''), ('a', D, '')])
write('twice', [('f', R, 'old'), ('f', R, 'new'), ('d', D, ''), ('d/x', R, 'kept'), ('d', D, ''), ('l', S, 'one'), ('l', S, 'two')])
write('kinds-change', [('a', R, 'file'), ('a', D, ''), ('a/x', R, ''), ('b', S, 'a'), ('b', R, 'file'), ('c', D, ''), ('c', S, 'a')])
write('spelt-oddly', [('./a', D, ''), ('/a/b', R, 'x'), ('a//c', R, 'y'), ('./a/./d', R, 'z'), ('.', D, '')])
write('names.dirless', [('x/y/z', R, 'deep'), ('w/caf\udce9/v', R, 'latin')], encoding='utf-8', errors='surrogateescape')
write('links', [('f', R, 'text'), ('h', H, './f'), ('i', H, '/h'), ('d', D, ''), ('d/j', H, 'i'), ('s', S, 'f'), ('t', H, 's')])
write('through-link', [('real', D, ''), ('l', S, 'real'), ('l/f', R, 'x'), ('abs', S, '/real'), ('abs/g', R, 'y'), ('real/h', H, 'l/f')])
write('whiteouts', [('.wh.never', R, ''), ('d', D, ''), ('d/.wh..wh..opq', R, ''), ('d/x', R, 'x'), ('.wh..wh.plnk', R, ''), ('d/.wh.y', R, '')])
write('no-end', [('f', R, 'x' * 512)], end=False)
write('nothing', [])
