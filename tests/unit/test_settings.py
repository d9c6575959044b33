"""Settings: what is read from where, and what each error says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import SettingError
from contracts.settings import Settings
from operations.settings import load_settings, settings_environ
from streams.security import aiokafka_security


def test_defaults_need_nothing(tmp_path: Path):
    assert load_settings(data_dir=tmp_path, environ={}) == Settings(data_dir=tmp_path)


def test_environment_goes_before_file_and_file_before_defaults(tmp_path: Path):
    (tmp_path / "tidemark.toml").write_text('schema = "from_file"\napp_version = "file"\n')
    settings = load_settings(data_dir=tmp_path, environ={"TIDEMARK_SCHEMA": "from_env"})
    assert (settings.schema, settings.app_version, settings.leaves_partitions) == ("from_env", "file", 4)


def test_named_file_goes_before_that_of_the_data_directory(tmp_path: Path):
    (tmp_path / "tidemark.toml").write_text('schema = "lies_there"\n')
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text('schema = "named"\n')
    other.write_text('schema = "other"\n')
    environ = {"TIDEMARK_CONFIG": str(other)}
    assert load_settings(data_dir=tmp_path, environ=environ).schema == "other"
    assert load_settings(data_dir=tmp_path, config=named, environ=environ).schema == "named"


def test_data_directory_of_the_command_line_wins(tmp_path: Path):
    settings = load_settings(data_dir=tmp_path, environ={"TIDEMARK_DATA_DIR": "/elsewhere"})
    assert settings.data_dir == tmp_path


def test_file_is_looked_for_in_the_data_directory_of_the_environment(tmp_path: Path):
    (tmp_path / "tidemark.toml").write_text('schema = "there"\n')
    assert load_settings(environ={"TIDEMARK_DATA_DIR": str(tmp_path)}).schema == "there"


def test_lists_are_separated_by_commas_and_may_be_emptied():
    settings = load_settings(environ={"TIDEMARK_SOURCE_TOPICS": "a, b", "TIDEMARK_BLOCKED_IDS": ""})
    assert settings.source_topics == ("a", "b")
    assert settings.blocked_ids == ()


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("1", True), ("0", False)])
def test_booleans_are_true_or_false(text: str, value: bool):
    settings = load_settings(environ={"TIDEMARK_STANDBY": text})
    assert settings.standby is value
    assert settings_environ(settings)["TIDEMARK_STANDBY"] == str(value).lower()


def test_other_variables_are_left_alone():
    load_settings(environ={"PATH": "/bin", "TIDEMARK_TEST_SERVICES": "docker"})


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"TIDEMARK_BOOTSTRAP_SERVER": "a:1"},
            ["TIDEMARK_BOOTSTRAP_SERVER", "did you mean 'bootstrap_servers'"],
        ),
        ({"TIDEMARK_LEAVES_PARTITIONS": "many"}, ["TIDEMARK_LEAVES_PARTITIONS", "whole number", "'many'"]),
        ({"TIDEMARK_LEAVES_PARTITIONS": "0"}, ["TIDEMARK_LEAVES_PARTITIONS", "1 to"]),
        ({"TIDEMARK_HTTP_PORT": "65536"}, ["TIDEMARK_HTTP_PORT", "65535", "65536"]),
        ({"TIDEMARK_HTTP_PORT": "-1"}, ["TIDEMARK_HTTP_PORT", "at least 0"]),
        ({"TIDEMARK_HTTP_HOST": ""}, ["TIDEMARK_HTTP_HOST", "127.0.0.1"]),
        ({"TIDEMARK_STANDBY": "perhaps"}, ["TIDEMARK_STANDBY", "expected true or false", "'perhaps'"]),
        ({"TIDEMARK_SESSION_TIMEOUT_S": "5"}, ["TIDEMARK_SESSION_TIMEOUT_S", "6 to 1800", "got 5"]),
        ({"TIDEMARK_STALL_TIMEOUT_S": "0"}, ["TIDEMARK_STALL_TIMEOUT_S", "at least 1"]),
        ({"TIDEMARK_LOG_LEVEL": "LOUD"}, ["TIDEMARK_LOG_LEVEL", "DEBUG, INFO", "'LOUD'"]),
        ({"TIDEMARK_BOOTSTRAP_SERVERS": "kafka"}, ["TIDEMARK_BOOTSTRAP_SERVERS", "host:port"]),
        ({"TIDEMARK_DSN": "host=db"}, ["TIDEMARK_DSN", "postgresql://"]),
        ({"TIDEMARK_SCHEMA": 'x"; drop'}, ["TIDEMARK_SCHEMA"]),
        ({"TIDEMARK_APP_VERSION": "V 2"}, ["TIDEMARK_APP_VERSION", "a-z"]),
        ({"TIDEMARK_SOURCE_TOPICS": "tidemark-v1-leaves"}, ["TIDEMARK_SOURCE_TOPICS", "name another"]),
        ({"TIDEMARK_SOURCE_TOPICS": ""}, ["TIDEMARK_SOURCE_TOPICS", "at least one"]),
        ({"TIDEMARK_MIN_INSYNC_REPLICAS": "2"}, ["TIDEMARK_MIN_INSYNC_REPLICAS", "replication_factor"]),
        ({"TIDEMARK_SECURITY_PROTOCOL": "SASL_SSL", "TIDEMARK_BOOTSTRAP_SERVERS": "a:1"}, ["sasl_username"]),
        ({"TIDEMARK_SECURITY_PROTOCOL": "SSL"}, ["bootstrap_servers", "embedded"]),
        ({"TIDEMARK_SSL_KEY_FILE": "k.pem"}, ["ssl_cert_file"]),
        ({"TIDEMARK_CONFIG": "/nowhere.toml"}, ["TIDEMARK_CONFIG", "/nowhere.toml"]),
    ],
)
def test_errors_name_the_setting_and_its_source(environ: dict[str, str], told: list[str]):
    with pytest.raises(SettingError) as error:
        load_settings(environ=environ)
    for part in told:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('schemma = "x"', "did you mean 'schema'"),
        ('leaves_partitions = "8"', "whole number"),
        ("source_topics = [1]", "list of texts"),
        ("blocked_ids = ['a,b']", "without commas"),
        ("blocked_ids = [' a']", "without space"),
        ("[kafka]\nbootstrap_servers = 'a:1'", "got a table"),
        ("schema = ", "TOML"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, text: str, told: str):
    path = tmp_path / "tidemark.toml"
    path.write_text(text)
    with pytest.raises(SettingError) as error:
        load_settings(data_dir=tmp_path, environ={})
    assert told in str(error.value)
    assert str(path) in str(error.value)


def test_secrets_are_not_shown():
    settings = Settings(dsn="postgresql://u:hidden@h/d", sasl_password="hidden", ssl_key_password="hidden")
    assert "hidden" not in repr(settings)
    with pytest.raises(SettingError) as error:
        load_settings(environ={"TIDEMARK_DSN": "hidden"})
    assert "hidden" not in str(error.value)


def test_topics_carry_the_app_version():
    settings = Settings(app_version="v2")
    assert settings.app_id == "tidemark-v2"
    assert settings.leaves_topic == "tidemark-v2-leaves"
    assert all(topic.startswith("tidemark-v2-") for topic in settings.internal_topics)
    assert len(set(settings.internal_topics)) == 6


_names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@given(
    st.builds(
        Settings,
        bootstrap_servers=st.sampled_from(["", "a:1", "a:1,b:2"]),
        source_topics=st.lists(_names, min_size=1, unique=True).map(tuple),
        app_version=_names,
        leaves_partitions=st.integers(1, 100),
        blocked_ids=st.lists(_names).map(tuple),
        data_dir=st.sampled_from([Path(".tidemark"), Path("/a b/c")]),
        log_level=st.sampled_from(["DEBUG", "INFO"]),
        sasl_password=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)
def test_a_worker_is_told_exactly_these_settings(settings: Settings):
    assert load_settings(environ=settings_environ(settings)) == settings


def test_plaintext_needs_no_context():
    assert aiokafka_security(Settings()) == {"security_protocol": "PLAINTEXT"}


def test_scram_over_tls():
    arguments = aiokafka_security(
        Settings(
            bootstrap_servers="a:1",
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="u",
            sasl_password="p",
        )
    )
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("u", "p")
    assert arguments["ssl_context"].check_hostname


@pytest.mark.parametrize("name", ["ssl_ca_file", "ssl_cert_file"])
def test_a_certificate_that_cannot_be_read_names_its_setting(tmp_path: Path, name: str):
    path = tmp_path / "broken.pem"
    path.write_text("not a certificate")
    for file in (path, tmp_path / "missing.pem"):
        settings = Settings(bootstrap_servers="a:1", security_protocol="SSL", **{name: str(file)})
        with pytest.raises(SettingError) as error:
            aiokafka_security(settings)
        assert error.value.setting == name
        assert str(file) in str(error.value)
