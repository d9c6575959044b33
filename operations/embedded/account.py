"""Under which account Postgres runs, and where it can reach its files.

Postgres refuses to run as root. For root it runs under an unprivileged account that exists already; nobody's
permissions are widened for it: what that account cannot reach is put below /var/lib/tidemark instead.
"""

import logging
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import ServiceError

log = logging.getLogger(__name__)

_CANDIDATES = ("postgres", "nobody")
# Where Linux keeps what services store; cleaned by nobody, unlike /var/tmp.
_SHARED = Path("/var/lib/tidemark")
_CHECK_S = 30.0


@dataclass(frozen=True, slots=True)
class Account:
    """An account other than our own: its name, user id and group id."""

    name: str
    uid: int
    gid: int

    @property
    def ids(self) -> tuple[int, int]:
        """(uid, gid), as a process is started with."""
        return self.uid, self.gid


def server_account(owned: Path) -> Account | None:
    """The account to run the server as; None for our own. The owner of `owned` ran it before."""
    if os.geteuid() != 0:
        return None
    if owned.exists() and owned.stat().st_uid != 0:
        status = owned.stat()
        try:
            name = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            name = str(status.st_uid)
        return Account(name, status.st_uid, status.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServiceError(
        f"Postgres does not run as root, and none of the accounts {', '.join(_CANDIDATES)} exists. "
        "Run Tidemark as another user, or set TIDEMARK_DSN to a server of your own."
    )


def can_enter(directory: Path, account: Account) -> bool:
    """Whether the account can reach what lies in `directory`, tried rather than computed."""
    return _succeeds(["/bin/sh", "-c", 'cd -- "$0"', str(directory)], account)


def reachable_install(install: Path, version: str, account: Account | None) -> Path:
    """`install` where the account can run it, else a copy that it can run, made once a version.

    `install` lies in a package whose shared libraries lie beside it, in `<package>.libs`, where the binaries
    look for them by a relative path: the copy keeps that layout.
    """
    if account is None or _runs_postgres(install, account):
        return install
    root = _SHARED / f"postgres-{version}"
    package = install.parent
    copy = root / package.name / install.name
    if not root.exists():
        log.info("%s cannot run %s: copying it to %s", account.name, install, root)
        _make_shared(account)
        with tempfile.TemporaryDirectory(dir=_SHARED) as scratch:
            unfinished = Path(scratch) / "copy"
            shutil.copytree(install, unfinished / package.name / install.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            # A umask of ours may have kept others out of the directories made here.
            for made in (unfinished, unfinished / package.name):
                made.chmod(0o755)
            unfinished.rename(root)
    if not _runs_postgres(copy, account):
        raise ServiceError(
            f"expected the account {account.name} to run {copy}/bin/postgres; it cannot. Remove {root} to have it "
            "copied again, run Tidemark as another user, or set TIDEMARK_DSN to a server of your own."
        )
    return copy


def _runs_postgres(install: Path, account: Account) -> bool:
    return _succeeds([install / "bin" / "postgres", "--version"], account)


def server_home(data_dir: Path, account: Account | None) -> Path:
    """The directory that holds the server's files: `<data>/postgres`, itself or a link to where they lie."""
    home = data_dir / "postgres"
    if home.exists():
        return home.resolve()
    if home.is_symlink():
        raise ServiceError(
            f"{home} points to {home.readlink()}, which is gone. Bring it back, or remove the link to begin anew."
        )
    if account is None or can_enter(data_dir, account):
        home.mkdir(mode=0o700)
        place = home
    else:
        _make_shared(account)
        place = Path(tempfile.mkdtemp(dir=_SHARED, prefix="data-"))
        home.symlink_to(place)
        log.warning("%s cannot enter %s: Postgres keeps its data in %s", account.name, data_dir, place)
    if account is not None:
        os.chown(place, account.uid, account.gid)
    return place


def remove_home(data_dir: Path) -> None:
    """Remove the server's files, wherever they lie, before their data directory is removed itself.

    The server has to be stopped. Of what a link points to, only what `server_home` made is removed.
    """
    home = data_dir / "postgres"
    if not home.is_symlink():
        shutil.rmtree(home, ignore_errors=True)
        return
    place = home.resolve()
    if place.parent == _SHARED.resolve():
        shutil.rmtree(place, ignore_errors=True)
    home.unlink()


def _make_shared(account: Account) -> None:
    if not _SHARED.exists():
        _SHARED.mkdir(parents=True)
        _SHARED.chmod(0o755)  # whatever the umask says
    if not can_enter(_SHARED, account):
        raise ServiceError(
            f"expected the account {account.name} to enter {_SHARED}; it cannot. Choose a --data-dir that "
            "it can enter, or set TIDEMARK_DSN to a server of your own."
        )


def _succeeds(command: list[str | Path], account: Account) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own commands
            command,
            capture_output=True,
            timeout=_CHECK_S,
            check=False,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0
