"""A writer of read-only ext4 images: a tree in, the bytes of a file system out.

Why not mke2fs: no distribution's can read a tar (only 1.47.1 and later, built with libarchive, can), and filling a
file system from a directory would need root and lay a hostile image's names, links and devices onto the host. Here
nothing but the image file is ever written, and the same tree gives the same bytes.

The format is that of the kernel's Documentation/filesystems/ext4. What the kernel would maintain, and a read-only
file system does not need, is left out: journal, checksums, hashed directories, backups of the superblock, lost+found.

- `geometry`: where everything lies
- `superblock`, `inode`, `extents`, `directory`, `xattrs`: the structures on the disk, as bytes
- `plan`: which inode and which blocks each node of the tree gets
- `writer`: puts the bytes into the file
"""

from boxlite.images.ext4.plan import Ext4Plan, plan_ext4
from boxlite.images.ext4.writer import write_ext4

__all__ = ["Ext4Plan", "plan_ext4", "write_ext4"]
