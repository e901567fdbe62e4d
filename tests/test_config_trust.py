"""Whose files are obeyed: a `.env`, config.py and --config that others may write, and what the
`.env` of a working directory may say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitoring.config import load as configuration
from monitoring.config.files import distrust
from monitoring.config.load import ConfigurationError
from monitoring.config.settings import Settings
from tests.configuring import scripts_in
from tests.scripts import run

STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="playing another user needs root")


@pytest.fixture
def visited(tmp_path: Path) -> Path:
    folder = tmp_path / "visited"
    folder.mkdir()
    return folder


def load(root: Path, visited: Path, env: str = "", **environ: str) -> Settings:
    """Load in `visited`, where `env` is the `.env` (empty: as it stands)."""
    if env:
        (visited / ".env").write_text(env)
    return configuration.load(
        script="health_check",
        root=root,
        config_file=None,
        environ={"HOME": str(root), **environ},
        cwd=visited,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scripts_in(tmp_path)


def said(settings: Settings, *words: str) -> bool:
    return any(all(word in note for word in words) for note in settings.warnings)


# -- owner and mode


@as_root
def test_the_env_of_a_stranger_is_not_obeyed_and_a_line_says_so(root: Path, visited: Path) -> None:
    (visited / ".env").write_text("EAPI_ENDPOINT=http://evil.example\nMONITORING_CONFIG=x.py\n")
    os.chown(visited / ".env", STRANGER, STRANGER)
    settings = load(root, visited)
    assert settings.eapi.url == "http://localhost:8080"
    assert said(settings, str(visited / ".env"), "belongs to", "chown")


@as_root
def test_a_link_that_a_stranger_planted_is_not_followed(root: Path, visited: Path) -> None:
    mine = visited.parent / "mine.env"
    mine.write_text("REDIS_PORT=1\n")
    (visited / ".env").symlink_to(mine)
    os.lchown(visited / ".env", STRANGER, STRANGER)
    assert load(root, visited).redis.port == 6379


@pytest.mark.parametrize(
    ("mode", "obeyed"),
    [(0o600, True), (0o644, True), (0o640, True), (0o646, False), (0o666, False), (0o602, False)],
)
def test_what_everybody_may_write_is_not_obeyed(
    root: Path, visited: Path, mode: int, obeyed: bool
) -> None:
    (visited / ".env").write_text("REDIS_PORT=1234\n")
    (visited / ".env").chmod(mode)
    settings = load(root, visited)
    assert settings.redis.port == (1234 if obeyed else 6379)
    assert said(settings, "chmod go-w") is not obeyed


@as_root
@pytest.mark.parametrize(("group", "trusted"), [(0, True), (STRANGER, False)])
def test_a_group_may_write_only_where_it_is_the_owners_alone(
    tmp_path: Path, group: int, trusted: bool
) -> None:
    """umask 002 makes files so, and root's group is root's own."""
    file = tmp_path / "file"
    file.write_text("")
    os.chown(file, 0, group)
    file.chmod(0o664)
    assert (distrust(file, file.stat(), ()) is None) is trusted


@as_root
def test_who_owns_our_code_may_own_what_lies_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("")
    os.chown(file, STRANGER, STRANGER)
    assert distrust(file, file.stat(), (STRANGER,)) is None
    assert "belongs to" in str(distrust(file, file.stat(), (STRANGER + 1,)))


@pytest.mark.parametrize("name", ["config.py", "extra.yaml", "extra.py"])
def test_a_configuration_that_others_may_write_is_not_executed(
    root: Path, visited: Path, name: str
) -> None:
    own = name == "config.py"
    file = (root if own else visited) / name
    file.write_text(f"open({str(visited / 'proof')!r}, 'w')\n" if name.endswith("py") else "{}")
    file.chmod(0o666)
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(
            script="health_check",
            root=root,
            config_file=None if own else str(file),
            environ={"HOME": str(root)},
            cwd=visited,
        )
    assert "chmod go-w" in str(caught.value)
    assert name in str(caught.value)
    assert not (visited / "proof").exists()


def test_a_configuration_that_never_ends_is_refused(root: Path, visited: Path) -> None:
    os.mkfifo(visited / "endless.yaml")
    with pytest.raises(ConfigurationError, match="regular file"):
        load(root, visited, MONITORING_CONFIG=str(visited / "endless.yaml"))


# -- what the .env of a working directory may say

SECRETS: dict[str, str] = {
    "MONITORING_AUTH_TOKEN": "EAPI_ENDPOINT=http://evil:1",
    "MONITORING_CLIENT_SECRET": "SAPI_ENDPOINT=http://evil:1",
    "REDIS_PASSWORD": "REDIS_HOST=evil",
    "CONJUR_AUTHN_API_KEY": "CONJUR_URL=https://evil:1",
    "SMTP_PASSWORD": "SMTP_SERVER=evil",
}
BESIDE = {
    "MONITORING_CLIENT_ID": "canary",
    "MONITORING_CLIENT_SECRET": "s3cr3t-of-it",
    "CONJUR_AUTHN_LOGIN": "host/m",
    "CONJUR_AUTHN_API_KEY": "k3y-of-it",
    "SMTP_USERNAME": "m",
}


def targets(settings: Settings) -> str:
    smtp = settings.notifications.channels.get("email")
    urls = [settings.eapi.url, settings.sapi.url, settings.redis.host, settings.conjur.url]
    return " ".join([*urls, str(smtp)])


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_a_target_is_not_moved_to_which_a_secret_from_elsewhere_is_sent(
    root: Path, visited: Path, secret: str
) -> None:
    environ = {**BESIDE, secret: "s3cr3t-of-mine"}
    settings = load(root, visited, SECRETS[secret] + "\n", **environ)
    name = SECRETS[secret].partition("=")[0]
    assert "evil" not in targets(settings)
    assert said(settings, str(visited / ".env"), name, secret)


@pytest.mark.parametrize("by", ["file", "beside the scripts", "config.py"])
def test_it_does_not_matter_where_the_secret_comes_from(root: Path, visited: Path, by: str) -> None:
    env = "REDIS_HOST=evil\n"
    if by == "file":  # the .env names it, but does not hold it
        (visited / "secret").write_text("s3cr3t-of-mine")
        env += f"REDIS_PASSWORD_FILE={visited / 'secret'}\n"
    elif by == "config.py":
        (root / "config.py").write_text("REDIS_PASSWORD = 's3cr3t-of-mine'\n")
    else:
        (root / ".env").write_text("REDIS_PASSWORD=s3cr3t-of-mine\n")
    assert load(root, visited, env).redis.host == "localhost"


def test_nor_is_it_told_whom_to_trust_or_to_leave_tls_out(root: Path, visited: Path) -> None:
    env = "REDIS_SSL=false\nMONITORING_CA_FILE=/nowhere.pem\n"
    settings = load(root, visited, env, REDIS_PASSWORD="s3cr3t-of-mine", REDIS_SSL="true")
    assert settings.redis.ssl
    assert said(settings, "MONITORING_CA_FILE", "REDIS_PASSWORD")


def test_a_config_file_does_not_see_the_target_either(root: Path, visited: Path) -> None:
    (root / "config.py").write_text(
        "import os\nREDIS_PASSWORD = 'abc-de-f'\n"
        "REDIS_HOST = os.environ.get('REDIS_HOST', 'mine')\n"
    )
    assert load(root, visited, "REDIS_HOST=evil\n").redis.host == "mine"


def test_what_holds_its_own_secret_or_needs_none_is_obeyed(root: Path, visited: Path) -> None:
    env = (
        "REDIS_HOST=mine\nREDIS_PASSWORD=s3cr3t-of-mine\nSAPI_ENDPOINT=http://mine:1\nREDIS_DB=3\n"
    )
    settings = load(root, visited, env)
    assert (settings.redis.host, settings.redis.db) == ("mine", 3)
    assert settings.sapi.url == "http://mine:1"
    assert not said(settings, ".env")


def test_beside_the_scripts_it_may_say_everything(root: Path) -> None:
    settings = load(root, root, "REDIS_HOST=mine\n", REDIS_PASSWORD="s3cr3t-of-mine")
    assert settings.redis.host == "mine"


def test_it_may_not_name_a_configuration(root: Path, visited: Path) -> None:
    (visited / "evil.py").write_text(f"open({str(visited / 'proof')!r}, 'w')\nREDIS_PORT = 1\n")
    settings = load(root, visited, f"MONITORING_CONFIG={visited / 'evil.py'}\n")
    assert settings.redis.port == 6379
    assert not (visited / "proof").exists()
    assert said(settings, "MONITORING_CONFIG", "--config")


def test_the_script_says_so_in_a_line(tmp_path: Path, visited: Path) -> None:
    (visited / "evil.py").write_text(f"open({str(visited / 'proof')!r}, 'w')\n")
    (visited / ".env").write_text("MONITORING_CONFIG=evil.py\nREDIS_PORT=1234\n")
    env = {"MONITORING_STATE_DIR": str(tmp_path / "state")}
    done = run("health_check", "--check-config", env=env, cwd=visited)
    assert done.returncode == 0
    assert "MONITORING_CONFIG is not obeyed" in done.stderr + done.stdout
    assert "1234" in done.stdout
    assert not (visited / "proof").exists()
