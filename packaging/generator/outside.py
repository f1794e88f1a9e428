# SPDX-License-Identifier: MIT
"""What docs/reference.md and sockd.toml(5) say of a configuration of several files, and of values from outside.

Markdown, as far as generator.mdoc reads it: headings, paragraphs, lists, blocks of code, `code`.
"""

TEXT = """\
### A configuration of several files

`include`, before all tables of `sockd.toml`, names files that belong to the configuration, too:

```toml
include = ["conf.d/*.toml", "/srv/app/app.toml"]

[daemon]
user = "nobody"
```

Such a file has `[[listen]]`, `[service.NAME]` and `[daemon]` tables, and no `include`. For example `conf.d/greet.toml`:

```toml
[[listen]]
address = "tcp://127.0.0.1:7000"
service = "greet"

[service.greet]
handler = "app:greet"
```

- Files are read after `sockd.toml`, in the order of the list, and those of one pattern in the order of their names:
  `10-a.toml` before `9-b.toml`.
- Listeners of all files are added up. A service, or a key of `[daemon]`, that is in two files is an error, which
  names both places.
- `*`, `?` and `[...]` are possible in the last part of a path. They match no name that begins with a dot, unless the
  pattern does. A pattern that matches no file is valid. A directory, and a file that is named without wildcards, must
  exist.
- Relative paths, also those within an included file (`path`, certificates, keys), are relative to the directory of
  `sockd.toml`. Handlers of all files are imported from there, too.
- A file must be named once, and `sockd.toml` must not match a pattern. Up to 1,000 files are possible.
- An included file must be as safe as `sockd.toml`: root reads neither a file, nor with wildcards a directory, that
  another user can change.
- Errors are reported with the file and the line. If a file is wrong, nothing is served, and a reload changes nothing.
- A start, `sockd --check`, `sockd -T`, `sockctl plan`, a reload and an upgrade read all files. A reload finds new
  files, and drops those that were removed. `sockd --reload` starts again when one of them changes.
- After `chroot`, a reload can read the files that were read at the start, if they are named: directories cannot be
  listed, so a pattern with wildcards makes the reload fail, and a restart is needed.

### Values from outside

A text can have values that are not in the file:

- `${NAME}` is the environment variable `NAME`; it is an error if it is not set.
- `${NAME:-default}` is `default` if the variable is not set, or empty.
- `${credential:NAME}` is the content of a credential of systemd (`LoadCredential=` in systemd.exec(5)): of the file
  `NAME` in the directory that `CREDENTIALS_DIRECTORY` names.
- `${file:/path}` is the content of a file. The path is absolute.
- `$${` is a plain `${`. A `$` before anything else, as in `$NAME`, is plain.

```toml
[daemon]
workers = "${WORKERS:-2}"

[[listen]]
address = "tcp://${HOST:-127.0.0.1}:${PORT:-7000}"
service = "greet"
banner = "421 ${file:/etc/hostname} is full, try again later"

[service.greet]
handler = "app:greet"
idle_timeout = "${IDLE:-5m}"
```

- They are possible in every text: in lists, within other text, several in one, in `include`, and in included files;
  not in the names of keys, tables and services. A value is not searched for references again, and a reference cannot
  contain another one.
- Where a number, or true or false, is wanted, write a text, as for `workers` above; its values come from variables.
  Secrets are texts only.
- Values are read at the start and at each reload. The environment is the one that the daemon was started with: after
  a change of `Environment=` in a unit, restart it. An upgrade passes the environment on. `sockctl
  plan` reads the variables of the daemon, not its own.
- The content of a credential or a file is UTF-8, at most 64 KiB, and used without its last newline. A file must be as
  safe as `sockd.toml`: root reads none that another user can change.
- What comes from a credential or a file is secret: `sockd -T`, messages and `sockctl` print `${file:/path}` in its
  place, except that values of fewer than 4 characters can appear within other text. What others can see anyway is
  shown as it is, such as an address that is bound, and the arguments of a program. What comes from a variable is
  printed.
- A reload that cannot read such a file any more, after `chroot` or as another user, keeps its last content, and logs a
  warning. A file that is gone makes the reload fail. A path that is first used by a reload is opened within the
  `chroot`, and with the rights of `user`.
"""
