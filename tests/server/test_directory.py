"""The directory of a front proxy: made once, kept, completed, renewed; private from the first byte."""

import base64
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from aggmw.errors import ConfigurationError
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca, make_key
from aggmw.pki.read import CertificateDetails, certificate_details, key_matches, pem_certificates, signed_by
from aggmw.server.directory import Directory

PAIRS = ("serving-ca", "server", "client-ca", "front-proxy-ca", "front-proxy-client")
FILES = sorted([f"{stem}.{kind}" for stem in PAIRS for kind in ("crt", "key")] + [".lock"])
URL = "https://127.0.0.1:6443"


def details(path: Path) -> CertificateDetails:
    (der,) = pem_certificates(path.read_bytes())
    return certificate_details(der)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def assert_consistent(path: Path) -> None:
    """Every certificate has its key, and every leaf is signed by its authority."""
    assert sorted(file.name for file in path.iterdir()) == FILES
    ders = {stem: pem_certificates((path / f"{stem}.crt").read_bytes())[0] for stem in PAIRS}
    for stem, der in ders.items():
        assert key_matches((path / f"{stem}.key").read_bytes(), der)
    assert signed_by(ders["server"], ders["serving-ca"])
    assert signed_by(ders["front-proxy-client"], ders["front-proxy-ca"])


def mistakes(path: str | Path, **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        Directory.open(path, **options)
    assert str(error.value).count("\n") == len(error.value.problems) - 1
    return [str(problem) for problem in error.value.problems]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Directory.open(tmp_path_factory.mktemp("made") / "dir", names=["door.example.com"]).path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy of a complete directory."""
    return Path(shutil.copytree(made, tmp_path / "dir"))


def test_first_start(made: Path) -> None:
    """The first start makes three authorities, a server certificate and a front-proxy certificate."""
    assert_consistent(made)
    assert details(made / "server.crt").names == {"localhost", "127.0.0.1", "::1", "door.example.com"}
    assert details(made / "server.crt").purposes == {"serverAuth"}
    assert details(made / "front-proxy-client.crt").common_name == "front-proxy-client"
    assert details(made / "front-proxy-client.crt").purposes == {"clientAuth"}
    assert all(details(made / f"{ca}.crt").authority for ca in ("serving-ca", "client-ca", "front-proxy-ca"))


def test_paths(made: Path) -> None:
    """Every attribute is the absolute path of a file that exists."""
    directory = Directory.open(made)
    for attribute in (
        "serving_ca", "serving_ca_key", "server_certificate", "server_key", "client_ca", "client_ca_key",
        "front_proxy_ca", "front_proxy_ca_key", "front_proxy_certificate", "front_proxy_key",
    ):  # fmt: skip
        file = getattr(directory, attribute)
        assert file.is_absolute()
        assert file.is_file()


def test_modes_whatever_the_umask(tmp_path: Path) -> None:
    """C5 17: DIR is 0700 and each key 0600, also under a umask of 0."""
    before = os.umask(0)
    try:
        directory = Directory.open(tmp_path / "dir")
        kubeconfig = directory.kubeconfig("admin", server=URL, user="admin")
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    for file in [*directory.path.glob("*.key"), kubeconfig]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.serving_ca.stat().st_mode) == 0o644


def test_private_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5 17: a key file is new (O_EXCL) and 0600 when its first byte is written."""
    opened: list[int] = []
    modes: list[int] = []
    real_open, real_write = os.open, os.write

    def recording_open(file: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & os.O_WRONLY:
            opened.append(flags)
        return real_open(file, flags, *more, **options)

    def recording_write(descriptor: int, data: bytes) -> int:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "open", recording_open)
    monkeypatch.setattr(os, "write", recording_write)
    Directory.open(tmp_path / "dir")
    assert sorted(modes) == [0o600] * 5 + [0o644] * 5
    assert all(flags & os.O_EXCL and flags & os.O_NOFOLLOW for flags in opened)


def test_second_start_keeps_everything(path: Path) -> None:
    """The next start changes no file."""
    before = contents(path)
    Directory.open(path, names=["door.example.com"])
    assert contents(path) == before


def test_a_missing_name_renews_the_server_certificate_only(path: Path) -> None:
    """A wanted name that the certificate lacks makes a new one for the same key; nothing else changes."""
    before = contents(path)
    Directory.open(path, names=["Other.example.com", "10.0.0.1"])
    after = contents(path)
    assert {name for name in after if after[name] != before[name]} == {"server.crt"}
    assert details(path / "server.crt").names >= {"other.example.com", "10.0.0.1", "localhost"}
    assert_consistent(path)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", ""])
def test_unspecified_addresses_are_no_names(path: Path, address: str) -> None:
    """Listening on every address adds no name."""
    before = contents(path)
    Directory.open(path, names=[address])
    assert contents(path) == before


@pytest.mark.parametrize("days", [29, -1])
def test_renewal(path: Path, days: int) -> None:
    """Server and client certificates that end within 30 days, or have ended, are renewed."""
    for stem, ca in (("server", "serving-ca"), ("front-proxy-client", "front-proxy-ca")):
        authority = KeyPair((path / f"{ca}.crt").read_bytes(), (path / f"{ca}.key").read_bytes())
        key, lifetime = (path / f"{stem}.key").read_bytes(), timedelta(days=days)
        old = (
            issue_server(authority, stem, names=["localhost"], key=key, lifetime=lifetime)
            if stem == "server"
            else issue_client(authority, stem, key=key, lifetime=lifetime)
        )
        (path / f"{stem}.crt").write_bytes(old.certificate)
    Directory.open(path)
    assert_consistent(path)
    for stem in ("server", "front-proxy-client"):
        assert details(path / f"{stem}.crt").not_after > datetime.now(UTC) + timedelta(days=300)


def test_every_crash_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step a start was cut off at, the next one completes the directory and keeps what was there."""
    real = os.replace
    for step in range(2 * len(PAIRS)):
        path = tmp_path / str(step)
        left = [step]

        def crash(*args: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", crash)
            with pytest.raises(KeyboardInterrupt):
                Directory.open(path)
        kept = {name: data for name, data in contents(path).items() if name.endswith((".crt", ".key"))}
        assert len(kept) == step
        Directory.open(path)
        assert_consistent(path)
        assert contents(path).items() >= kept.items()


def test_leftovers_of_a_crash_go(path: Path) -> None:
    """A temporary file that a crash left is removed, another hidden file is not."""
    (path / ".server.key.0123456789abcdef.aggmw-tmp").write_bytes(b"half")
    (path / ".mine").write_bytes(b"")
    Directory.open(path)
    assert {file.name for file in path.iterdir()} == {*FILES, ".mine"}


def test_two_starts_at_once(tmp_path: Path) -> None:
    """Several starts at the same moment make one directory, not a mixture."""
    path = tmp_path / "dir"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Directory.open(path), range(8)))
        files = list(
            pool.map(lambda _: Directory.open(path).kubeconfig("a", server=URL, user="a").read_bytes(), range(8))
        )
    assert len(set(files)) == 1
    (path / "a.kubeconfig").unlink()
    assert_consistent(path)


@pytest.mark.parametrize("name", ["with space", "100%", "%s", "new\nline", "quote'\"", "ünï", "$HOME", "-rf", "a;b"])
def test_odd_names_work(tmp_path: Path, name: str) -> None:
    """C5 17: a directory's name may hold anything that the file system takes."""
    directory = Directory.open(tmp_path / name)
    assert directory.kubeconfig("admin", server=URL, user="admin").is_file()
    assert directory.path == tmp_path / name


def test_a_nul_in_the_name(tmp_path: Path) -> None:
    """C5 17: a NUL is refused in one line, escaped."""
    [line] = mistakes(f"{tmp_path}/a\0b")  # which null is Python's own word, and differs
    assert line.startswith(f"{str(tmp_path) + '/a' + chr(0) + 'b'!r}: cannot be created: ")
    assert "embedded null" in line


def test_a_line_break_in_the_name_of_a_mistake(tmp_path: Path) -> None:
    """C5 17: a message stays one line, whatever the path."""
    (tmp_path / "a\nb").write_bytes(b"")
    assert mistakes(tmp_path / "a\nb") == [f"{str(tmp_path / ('a' + chr(10) + 'b'))!r}: is not a directory"]


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    """A regular file is no directory."""
    (tmp_path / "file").write_bytes(b"")
    assert mistakes(tmp_path / "file") == [f"{tmp_path}/file: is not a directory"]


def test_a_directory_below_a_file(tmp_path: Path) -> None:
    """A path below a regular file cannot be made."""
    (tmp_path / "file").write_bytes(b"")
    assert mistakes(tmp_path / "file" / "dir") == [f"{tmp_path}/file/dir: cannot be created: Not a directory"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """The operating system's word is passed on."""
    assert mistakes(tmp_path / ("x" * 300)) == [f"{tmp_path}/{'x' * 300}: cannot be created: File name too long"]


def test_a_directory_that_cannot_be_written() -> None:
    """A directory that takes no files is named, not the file that could not be made."""
    assert mistakes("/proc/self/fdinfo") in (
        ["/proc/self/fdinfo: cannot be written: Permission denied"],
        ["/proc/self/fdinfo: cannot be written: No such file or directory"],
    )


def test_a_directory_that_others_may_write_to(path: Path) -> None:
    """Others who can write to it could put an authority of theirs in place: refused."""
    path.chmod(0o777)
    what = "others may write to it (mode 0777); choose a directory of your own or chmod go-w it"
    assert mistakes(path) == [f"{path}: {what}"]


def test_a_directory_that_others_may_read(path: Path) -> None:
    """Keys in it stay private, so it works, and its mode stays as it is."""
    path.chmod(0o755)
    Directory.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("key", [f"{stem}.key" for stem in PAIRS])
def test_a_key_that_others_may_read(path: Path, key: str) -> None:
    """A key that others could read is not mended silently: the operator has to know."""
    (path / key).chmod(0o640)
    what = "holds a private key and others may read it (mode 0640); chmod 600 it, or remove it if they have"
    assert mistakes(path)[0] == f"{path}/{key}: {what}"


def test_all_mistakes_at_once(path: Path) -> None:
    """Every mistake is found in one pass, a line each, and no file is changed."""
    (path / "serving-ca.crt").write_bytes((path / "server.crt").read_bytes())
    (path / "client-ca.key").unlink()
    (path / "front-proxy-client.key").write_bytes(b"nonsense")
    before = contents(path)
    move = "move it away to have a new one made"
    assert mistakes(path) == [
        f"{path}/serving-ca.key: does not belong to the certificate in serving-ca.crt",
        f"{path}/client-ca.key: is missing, though client-ca.crt exists; bring it back, or move that away too",
        f"{path}/front-proxy-client.key: holds no PEM private key (-----BEGIN PRIVATE KEY-----); "
        f"{move.replace('it', 'it and front-proxy-client.crt', 1).replace('a new one', 'new ones')}",
    ]
    assert contents(path) == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (make_ca("a").certificate + make_ca("b").certificate, "holds 2 certificates instead of one"),
    ],
)
def test_a_file_that_is_no_certificate(path: Path, data: bytes, message: str) -> None:
    """A file that is not what it should be is never replaced."""
    (path / "client-ca.crt").write_bytes(data)
    assert mistakes(path) == [f"{path}/client-ca.crt: {message}; move it away to have a new one made"]
    assert (path / "client-ca.crt").read_bytes() == data


def test_a_leaf_in_place_of_an_authority(path: Path) -> None:
    """A certificate that may not sign is no authority."""
    leaf = issue_client(make_ca("x"), "x")
    (path / "client-ca.crt").write_bytes(leaf.certificate)
    (path / "client-ca.key").write_bytes(leaf.key)
    what = "is not the certificate of an authority (CA:TRUE); move it away to have a new one made"
    assert mistakes(path) == [f"{path}/client-ca.crt: {what}"]


def test_an_expired_authority(path: Path) -> None:
    """An authority that has ended is named with the date; a new one is the operator's decision."""
    old = make_ca("aggmw client CA", lifetime=timedelta(days=-1), key=(path / "client-ca.key").read_bytes())
    (path / "client-ca.crt").write_bytes(old.certificate)
    day = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    what = f"expired on {day}; move it, its key and what it signed away"
    assert mistakes(path) == [f"{path}/client-ca.crt: {what}"]


def test_a_certificate_of_another_authority(path: Path) -> None:
    """A server certificate that the authority beside it did not sign may be the operator's own: kept and refused."""
    other = issue_server(make_ca("x"), "x", names=["localhost"], key=(path / "server.key").read_bytes())
    (path / "server.crt").write_bytes(other.certificate)
    what = "was not signed by the authority beside it; move it away to have a new one made"
    assert mistakes(path) == [f"{path}/server.crt: {what}"]


def test_a_key_without_certificate_is_used(tmp_path: Path) -> None:
    """A key that a crash left alone gets its certificate; an authority lost by accident verifies as before."""
    directory = Directory.open(tmp_path / "dir")
    leaf = pem_certificates(directory.server_certificate.read_bytes())[0]
    directory.serving_ca.unlink()
    Directory.open(tmp_path / "dir")
    assert signed_by(leaf, pem_certificates(directory.serving_ca.read_bytes())[0])


def test_a_wrong_name(tmp_path: Path) -> None:
    """A host name that cannot be in a certificate is a mistake of the configuration."""
    path = tmp_path / "dir"
    what = "cannot be made: 'a b' is neither an IP address nor a DNS name"
    assert mistakes(path, names=["a b"]) == [f"{path}/server.crt: {what}"]


def test_a_key_that_is_a_directory(path: Path) -> None:
    """A directory in place of a file is named."""
    (path / "server.key").unlink()
    (path / "server.key").mkdir()
    assert mistakes(path) == [f"{path}/server.key: cannot be read: Is a directory"]


# --- kubeconfigs -----------------------------------------------------------------------------------------------------


def identity(kubeconfig: Path) -> tuple[bytes, CertificateDetails]:
    document = yaml.safe_load(kubeconfig.read_bytes())
    (entry,) = document["users"]
    (der,) = pem_certificates(base64.b64decode(entry["user"]["client-certificate-data"]))
    assert key_matches(base64.b64decode(entry["user"]["client-key-data"]), der)
    return der, certificate_details(der)


def test_admin(path: Path) -> None:
    """The kubeconfig holds the serving CA, the URL, and a client certificate of the client CA."""
    directory = Directory.open(path)
    file = directory.kubeconfig("admin", server=URL, user="admin", groups=("system:masters",))
    assert file == path / "admin.kubeconfig"
    der, found = identity(file)
    assert (found.common_name, found.organizations) == ("admin", ("system:masters",))
    assert signed_by(der, pem_certificates(directory.client_ca.read_bytes())[0])
    (cluster,) = yaml.safe_load(file.read_bytes())["clusters"]
    assert cluster["cluster"]["server"] == URL
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == directory.serving_ca.read_bytes()


def test_a_kubeconfig_is_kept(path: Path) -> None:
    """The next start changes nothing."""
    directory = Directory.open(path)
    before = directory.kubeconfig("admin", server=URL, user="admin").read_bytes()
    assert directory.kubeconfig("admin", server=URL, user="admin").read_bytes() == before


def test_a_new_address_keeps_the_identity_and_what_people_added(path: Path) -> None:
    """A changed URL changes the URL: not the certificate, not the namespace, not other entries."""
    directory = Directory.open(path)
    file = directory.kubeconfig("admin", server=URL, user="admin")
    document = yaml.safe_load(file.read_bytes())
    document["contexts"][0]["context"]["namespace"] = "dev"
    document["clusters"].append({"name": "mine", "cluster": {"server": "https://mine"}})
    file.write_text(yaml.safe_dump(document))
    directory.kubeconfig("admin", server="https://127.0.0.1:7443", user="admin")
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:7443"
    assert yaml.safe_load(file.read_bytes()) == document
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("groups", [("dev",), ()])
def test_other_groups_make_a_new_identity(path: Path, groups: tuple[str, ...]) -> None:
    """The certificate always says what was asked for."""
    directory = Directory.open(path)
    directory.kubeconfig("bob", server=URL, user="bob", groups=("ops",))
    assert identity(directory.kubeconfig("bob", server=URL, user="bob", groups=groups))[1].organizations == groups


def test_an_identity_that_ends_soon_is_renewed(path: Path) -> None:
    """A client certificate that ends within 30 days is made anew."""
    directory = Directory.open(path)
    file = directory.kubeconfig("bob", server=URL, user="bob")
    ca = KeyPair(directory.client_ca.read_bytes(), directory.client_ca_key.read_bytes())
    document = yaml.safe_load(file.read_bytes())
    old = issue_client(ca, "bob", lifetime=timedelta(days=5))
    document["users"][0]["user"] = {
        "client-certificate-data": base64.b64encode(old.certificate).decode(),
        "client-key-data": base64.b64encode(old.key).decode(),
    }
    file.write_text(yaml.safe_dump(document))
    _, found = identity(directory.kubeconfig("bob", server=URL, user="bob"))
    assert found.not_after > datetime.now(UTC) + timedelta(days=300)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\t:", "is not YAML"),
        (b"\xff\xff", "is not YAML"),
        (b"- 1", "is not a kubeconfig (kind: Config)"),
        (b"kind: Config\nusers: {a: b}", "is not a kubeconfig: users is not a list of named entries"),
        (b"kind: Config\nusers: [{user: {}}]", "is not a kubeconfig: users is not a list of named entries"),
    ],
)
def test_a_kubeconfig_that_is_none(path: Path, data: bytes, message: str) -> None:
    """A file that is something else is never replaced."""
    directory = Directory.open(path)
    file = path / "admin.kubeconfig"
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError) as error:
        directory.kubeconfig("admin", server=URL, user="admin")
    assert str(error.value) == f"{file}: {message}; move it away to have a new one made"
    assert file.read_bytes() == data


def test_a_kubeconfig_that_others_may_read(path: Path) -> None:
    """It holds a key: the same rule as for key files."""
    directory = Directory.open(path)
    directory.kubeconfig("admin", server=URL, user="admin").chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"others may read it \(mode 0644\)"):
        directory.kubeconfig("admin", server=URL, user="admin")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\0b", "a\nb", ".hidden", "x" * 64, "%n ", "é"])
def test_kubeconfig_names(path: Path, name: str) -> None:
    """C5 17: a name never leaves the directory and is printed in one line."""
    with pytest.raises(ConfigurationError, match="cannot name a file here") as error:
        Directory.open(path).kubeconfig(name, server=URL, user="x")
    assert "\n" not in str(error.value)


def test_a_user_that_does_not_fit(path: Path) -> None:
    """A user that no certificate can name is a mistake with the file's path."""
    with pytest.raises(ConfigurationError) as error:
        Directory.open(path).kubeconfig("long", server=URL, user="x" * 65)
    assert str(error.value).startswith(f"{path}/long.kubeconfig: cannot be made: the common name 'xxx")


def test_a_further_server(path: Path) -> None:
    """A server beside the door gets a certificate of the serving CA, kept on the next start."""
    directory = Directory.open(path)
    files = directory.server("wardle", names=["api.wardle.svc", "127.0.0.1"])
    (der,) = pem_certificates(files.certificate.read_bytes())
    assert certificate_details(der).names == {"api.wardle.svc", "127.0.0.1"}
    assert signed_by(der, pem_certificates(directory.serving_ca.read_bytes())[0])
    assert key_matches(files.key.read_bytes(), der)
    before = contents(path)
    directory.server("wardle", names=["api.wardle.svc", "127.0.0.1"])
    assert contents(path) == before


def test_a_further_server_needs_a_name(path: Path) -> None:
    """No name, no certificate."""
    with pytest.raises(ConfigurationError, match=r"wardle\.crt: cannot be made: a server certificate needs at least"):
        Directory.open(path).server("wardle", names=["0.0.0.0"])


def test_a_link_is_replaced_not_followed(path: Path, tmp_path: Path) -> None:
    """A renewed certificate does not write through a symbolic link."""
    target = tmp_path / "elsewhere.crt"
    shutil.move(path / "server.crt", target)
    (path / "server.crt").symlink_to(target)
    before = target.read_bytes()
    Directory.open(path, names=["new.example.com"])
    assert target.read_bytes() == before
    assert not (path / "server.crt").is_symlink()


def test_a_planted_lock_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link in place of the lock is refused."""
    path = tmp_path / "dir"
    path.mkdir(0o700)
    (path / ".lock").symlink_to(tmp_path / "other")
    assert mistakes(path)[0].startswith(f"{path}: cannot be written: ")
    assert not (tmp_path / "other").exists()


def test_no_key_in_a_message(path: Path) -> None:
    """C5: what is wrong with a key is said without showing it."""
    key = make_key()
    (path / "server.key").write_bytes(key)
    assert mistakes(path) == [f"{path}/server.key: does not belong to the certificate in server.crt"]
