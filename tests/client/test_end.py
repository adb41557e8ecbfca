"""What a Timeout says besides what the engine has seen, and what the log says of it; with real peers: test_diagnosis."""

import pytest

from gilmsg._client import end
from gilmsg.errors import Reason, Timeout
from gilmsg.sandbox import Authority

HINT = "; 'backend01' is a name in certnames, its common name is"
GUESSED = " (by the name of its certificate file)"


def timeout(**missing):
    return Timeout("1", "t", 0.25, {}, missing, len(missing))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("pki"))
    authority = Authority(folder)
    authority.issue("app01", common_names=["app01.example.com"])
    authority.issue("backend01", common_names=["backend01"])
    return folder


@pytest.mark.parametrize(
    ("certnames", "config", "code", "hint"),
    [
        ({"backend01": "app01"}, {}, "never_connected", f"{HINT} 'app01.example.com'"),
        ({"backend01": "elsewhere"}, {}, "never_connected", f"{HINT} 'elsewhere'{GUESSED}"),
        ({"backend01": "app01"}, {"ssldir": "/nonexistent"}, "never_connected", f"{HINT} 'app01'{GUESSED}"),
        ({"backend01": "ca"}, {"crypto_backend": "gpg"}, "never_connected", f"{HINT} 'ca'{GUESSED}"),
        ({"backend01": "app01"}, {"active": True}, "silent", f"{HINT} 'app01.example.com'"),
        ({"backend01": "app01"}, {}, "silent", ""), ({"backend01": "backend01"}, {}, "never_connected", ""),
        ({"other": "app01"}, {}, "never_connected", ""), (None, {}, "never_connected", ""),
    ],
)  # fmt: skip
def test_the_name_of_an_endpoint_is_no_common_name(files, certnames, config, code, hint):
    """Who was not seen, and is a name in certnames, is told with the common name that was meant."""
    found = timeout(backend01=Reason("seen so", code, False), bob=Reason("b", "gone"))
    end.tell(found, {"ssldir": files, "certnames": certnames, **config})
    reason = found.missing["backend01"]
    assert (str(reason), reason.code, reason.may_have_arrived) == (f"seen so{hint}", code, False)
    assert str(found).endswith(f"missing: backend01 (seen so{hint}); bob (b)") and str(found) == found.args[0]


def test_of_a_group_the_member_is_told(files):
    """Its own reason has the hint, and the group's."""
    members = {"bob": Reason("b", "gone"), "backend01": Reason("a", "never_connected")}
    found = timeout(**{"bob,backend01": Reason("b | a", "group", True, members)})
    end.tell(found, {"ssldir": files, "certnames": {"backend01": "app01", "bob": "app01"}})
    [reason] = found.missing.values()
    assert (str(reason), reason.code) == (f"b | a{HINT} 'app01.example.com'", "group")
    assert reason.members == {"bob": "b", "backend01": f"a{HINT} 'app01.example.com'"}
    assert reason.members["backend01"].code == "never_connected"


def test_few_certificates_are_read_for_one_timeout(files, monkeypatch):
    """It must not come late because of many names."""
    read = []
    monkeypatch.setattr(end._trust, "key_pair", lambda config, certname: read.append(certname))
    names = [f"n{number}" for number in range(100)]
    end.tell(timeout(**{name: Reason("a", "never_connected") for name in names}), {"certnames": dict.fromkeys(names, "x")})
    assert len(read) == end._READ


def test_the_log_has_the_reasons(caplog):
    """Names as before, and of each its code, as fields of the record."""
    end.log(timeout(alice=Reason("silent for long", "silent"), bob="plain text"))
    [record] = caplog.records
    assert (record.name, record.acked, record.missing) == ("gilmsg.publish", [], ["alice", "bob"])
    assert record.reasons == {
        "alice": {"code": "silent", "may_have_arrived": True, "text": "silent for long"},
        "bob": {"code": "silent", "may_have_arrived": True, "text": "plain text"},
    }
